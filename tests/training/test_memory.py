"""Memory of a training step without memory, compared with that of the same step on the CPU."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.training.callbacks.memory_preflight import check_memory
from mindeye_pl.training.callbacks.recompute import RecomputeActivations, recompute
from mindeye_pl.training.memory import MemoryTracker, training_memory, without_memory
from mindeye_pl.types import BrainBatch
from tests.models.test_contract import SYSTEMS, VOXELS, Build, batch, mindeye2


def model_and_batch(build: Build) -> tuple[BrainDecoder, BrainBatch]:
    torch.manual_seed(0)
    model = build(VOXELS)
    num_tokens = model.eval().predict(torch.randn(2, VOXELS[0])).retrieval.shape[1]
    return model.train(), batch(num_tokens)


def loss_of(model: Any, data: BrainBatch) -> Tensor:
    return model.compute_loss(data, epoch=3, num_epochs=4).total


def adamw(model: Any) -> Optimizer:
    return AdamW([p for p in model.parameters() if p.requires_grad], fused=True)


def measured(model: BrainDecoder, data: BrainBatch, make: Callable[[Any], Optimizer]) -> int:
    """Return the peak of a second step on the CPU, with the inputs."""
    optimizer, tracker = make(model), MemoryTracker()
    with tracker:
        tracker.add([*model.parameters(), *model.buffers(), *data.voxels, data.stimulus_ids, *data.targets.values()])
        for _ in range(2):
            optimizer.zero_grad()
            tracker.restart()
            loss = loss_of(model, data)
            loss.backward()
            del loss
            optimizer.step()
    return tracker.peak


@pytest.mark.parametrize("build", SYSTEMS)
def test_the_peak_is_that_of_a_real_step(build: Build) -> None:
    model, data = model_and_batch(build)
    before = copy.deepcopy(model.state_dict())
    memory = training_memory(model, data, loss_of, adamw)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert memory.weights == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert 0.5 * 4 * trained < memory.gradients <= 4 * trained, "inert blocks have none"
    assert memory.optimizer == pytest.approx(2 * memory.gradients, rel=0.05)
    assert memory.peak == measured(model, data, adamw)
    assert memory.peak > memory.weights + memory.gradients + memory.optimizer


def test_other_optimizers_precisions_and_copies() -> None:
    model, data = model_and_batch(mindeye2)
    full = training_memory(model, data, loss_of, adamw)
    plain = training_memory(model, data, loss_of, lambda model: SGD(model.parameters(), lr=1.0))
    assert plain.optimizer == 0
    assert full.peak - plain.peak == pytest.approx(full.optimizer, rel=0.2)
    doubled = training_memory(model, data, loss_of, adamw, copies=2)
    assert doubled.peak - full.peak == full.gradients
    halved = training_memory(model, data, loss_of, adamw, precision="bf16-mixed")
    assert halved.weights == full.weights
    assert halved.activations != full.activations


def test_recomputed_activations_need_less_and_have_the_same_gradients() -> None:
    model, data = model_and_batch(mindeye2)
    kept = training_memory(model, data, loss_of, adamw)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        loss_of(model, data).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    changed = recompute(model, ["CosineAttention", "FeedForward"])
    assert len(changed) == 2
    for one, other in zip(before, gradients(), strict=True):
        assert torch.equal(one, other)
    for module in changed:
        del module.forward

    def with_recomputation(model: Any, data: BrainBatch) -> Tensor:
        recompute(model, ["CosineAttention", "FeedForward"])
        return loss_of(model, data)

    assert training_memory(model, data, with_recomputation, adamw).activations < kept.activations


def test_copies_without_memory() -> None:
    mode = FakeTensorMode()
    data = without_memory(batch(4), mode)
    assert isinstance(data, BrainBatch)
    assert all(isinstance(value, FakeTensor) for value in (*data.voxels, data.stimulus_ids, *data.targets.values()))
    assert data.subject_index == [0, 1]
    assert data.targets["tokens"].shape == batch(4).targets["tokens"].shape


def test_a_training_that_does_not_fit_is_refused_with_the_preset_that_does() -> None:
    model, data = model_and_batch(mindeye2)
    optimizer = adamw(model)

    def check(capacity: float, recomputed: tuple[str, ...] = ()) -> Any:
        names = list(recomputed)
        return check_memory(model, data, optimizer, capacity=math.ceil(capacity), precision="32-true", recomputed=names)

    memory = check(1e12)
    assert check(memory.required) == memory
    with pytest.raises(UserError, match=r"does not fit the GPU \(weights .*trainer=gpu48|trainer=gpu24"):
        check(memory.required - 2)
    with pytest.raises(UserError, match="Fix: trainer=gpu24"):
        check(1.1 * (memory.weights + memory.gradients + memory.activations))
    with pytest.raises(UserError, match="Fix: scale=small"):
        check(0.5 * memory.weights)
    assert not any("forward" in vars(module) for module in model.modules()), "the model stays as it is"


class Check(Callback):
    """Computes the memory inside a training, as `MemoryPreflight` does on a GPU."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Check."""
        assert isinstance(pl_module, BrainDecoder)
        given = {"precision": trainer.precision, "recomputed": ["FeedForward"]}
        self.memory = check_memory(pl_module, batch, trainer.optimizers[0], capacity=10**12, **given)


def test_inside_a_training(tmp_path: Path) -> None:
    model, data = model_and_batch(mindeye2)
    model._optimizer = lambda groups: AdamW(groups, lr=1e-3, fused=True)
    model._scheduler = lambda optimizer, iterations_per_epoch: torch.optim.lr_scheduler.ConstantLR(optimizer)
    check, loader = Check(), DataLoader([data], batch_size=None)  # type: ignore[arg-type]
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    callbacks = [RecomputeActivations(), check]
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path, **options)
    trainer.fit(model, loader)
    assert check.memory.weights == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert check.memory.optimizer == pytest.approx(2 * check.memory.gradients, rel=0.05)
