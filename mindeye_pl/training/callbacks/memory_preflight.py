"""Refusal of a training that does not fit its GPU, at its first batch, with the preset that does."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.training.callbacks.recompute import RecomputeActivations, recompute
from mindeye_pl.training.memory import GIB, TrainingMemory, training_memory

#: Presets of `conf/trainer`, the fastest first: are activations recomputed, and is the optimiser's state on the host?
PRESETS = {"gpu80": (False, False), "gpu48": (True, False), "gpu24": (True, True)}


class MemoryPreflight(Callback):
    """Computes the memory of a training step at the first batch of a training on a GPU.

    Strategies that share weights out over GPUs are not checked.

    Raises:
        UserError: if the GPU has too little.
    """

    def __init__(self) -> None:
        self._checked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the first batch of this training."""
        self._checked = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Check."""
        checked, self._checked = self._checked, True
        device = trainer.strategy.root_device
        whole = type(trainer.strategy).__name__ in ("SingleDeviceStrategy", "DDPStrategy")
        if checked or device.type != "cuda" or not whole or not isinstance(pl_module, BrainDecoder):
            return
        names = [name for one in trainer.callbacks if isinstance(one, RecomputeActivations) for name in one.modules]  # type: ignore[attr-defined]
        check_memory(
            pl_module,
            batch,
            trainer.optimizers[0],
            capacity=torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device),
            precision=trainer.precision,
            recomputed=names,
            ranks=trainer.world_size,
        )


def check_memory(
    model: BrainDecoder,
    batch: Any,
    optimizer: Optimizer,
    *,
    capacity: int,
    precision: Any,
    recomputed: list[str],
    ranks: int = 1,
) -> TrainingMemory:
    """Return the memory of a step; raise a `UserError` with the preset that fits if `capacity` bytes are too few.

    Args:
        model: in train mode.
        batch: of the training.
        optimizer: of the model.
        capacity: bytes of the GPU that the training may use.
        precision: Lightning's.
        recomputed: names of the modules' classes whose activations are recomputed.
        ranks: number of GPUs; several keep the gradients twice.
    """

    def step(names: list[str]) -> TrainingMemory:
        return training_memory(
            model, batch, _loss_with(names), _same_optimizer(optimizer), precision=precision, copies=min(ranks, 2)
        )

    memory = step(recomputed)
    if memory.required <= capacity:
        return memory
    cheaper = step(list({*recomputed, *RecomputeActivations().modules}))
    peaks = {
        name: (cheaper if recomputes else memory).peak - (cheaper.optimizer if on_host else 0)
        for name, (recomputes, on_host) in PRESETS.items()
    }
    fitting = [f"trainer={name}" for name, peak in peaks.items() if 1.1 * peak <= capacity and peak < memory.peak]
    fix = fitting[0] if fitting else "scale=small, a smaller scale.finetune_batch_size, or trainer=fsdp on several GPUs"
    parts = ("weights", "gradients", "optimizer", "activations")
    words = ", ".join(f"{name} {_gb(getattr(memory, name))}" for name in parts)
    what = f"the training does not fit the GPU ({words})"
    raise UserError(what, got=f"{_gb(capacity)} free", expected=_gb(memory.required), fix=fix)


def _loss_with(names: list[str]) -> Callable[[Any, Any], torch.Tensor]:
    def compute_loss(model: Any, batch: Any) -> torch.Tensor:
        changed: list[nn.Module] = recompute(model, names)
        try:
            return model.compute_loss(batch, epoch=0, num_epochs=1).total
        finally:
            for module in changed:
                del module.forward

    return compute_loss


def _same_optimizer(optimizer: Optimizer) -> Callable[[Any], Optimizer]:
    known = signature(type(optimizer)).parameters
    options = {name: value for name, value in optimizer.defaults.items() if name in known}

    def make(model: Any) -> Optimizer:
        return type(optimizer)([p for p in model.parameters() if p.requires_grad], **options)

    return make


def _gb(size: float) -> str:
    return f"{size / GIB:.1f} GB"
