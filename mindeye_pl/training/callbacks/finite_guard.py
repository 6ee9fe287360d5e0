"""Stop of a training whose loss or weights are not finite, before the last good checkpoint is replaced."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint

_PREFIX, _SUFFIX = "train/", "_step"
_TOTAL = "loss"
#: Step of a term that has been finite so far.
_NEVER = 2**62


class FiniteGuard(Callback):
    """Watches the terms of the training loss, and stops with the first one that is not finite and its step.

    The values stay on their device. They are looked at when Lightning logs, which waits for the device anyway, and
    before a checkpoint is written: a checkpoint holds finite weights of steps with finite losses alone.

    Raises:
        UserError: for such a term, or such weights.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._first_steps: Tensor | None = None  # (terms,) int64

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the terms of an earlier training."""
        self._names, self._first_steps = [], None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the terms of this step, and look at them where Lightning logs."""
        terms = _terms(trainer)
        if not terms:
            return
        names, values = list(terms), torch.stack([value.detach().float() for value in terms.values()])
        if self._first_steps is None or names != self._names:
            self._check(trainer)  # before the other terms of another phase
            self._names, self._first_steps = names, torch.full_like(values, _NEVER, dtype=torch.int64)
        step = torch.where(values.isfinite(), _NEVER, trainer.global_step)
        self._first_steps = torch.minimum(self._first_steps, step)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (batch_idx + 1) % every == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the terms."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look at the terms and at the weights."""
        self._check(trainer)
        weights = {name: value for name, value in checkpoint.get("state_dict", {}).items() if _is_plain(value)}
        finite = [torch.isfinite(value).all() for value in weights.values()]
        if finite and not torch.stack(finite).all():
            name = next(name for name, is_finite in zip(weights, finite, strict=True) if not is_finite)
            raise _not_finite(f"the weight {name}", trainer, trainer.global_step)

    def _check(self, trainer: Trainer) -> None:
        if self._first_steps is None:
            return
        first = self._first_steps
        if trainer.world_size > 1:
            first = trainer.strategy.reduce(first, reduce_op="min")
        steps = dict(zip(self._names, first.tolist(), strict=True))
        step = min(steps.values())
        if step < _NEVER:
            names = [name for name, at in steps.items() if at == step]
            parts = [name for name in names if name != _TOTAL]  # the total is not finite if one of its terms is not
            what = f"the term {parts[0]} of the training loss" if parts else "the training loss"
            raise _not_finite(what, trainer, step)


def _terms(trainer: Trainer) -> dict[str, Tensor]:
    """Return the last step's loss and its terms by name."""
    return {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): value
        for name, value in trainer.callback_metrics.items()
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    }


def _is_plain(value: Any) -> bool:
    """Return whether a value is a tensor of numbers, and not a rank's part of one."""
    return type(value) in (Tensor, torch.nn.Parameter) and value.is_floating_point()


def _not_finite(what: str, trainer: Trainer, step: int) -> UserError:
    where = f"step {step:,}, in epoch {trainer.current_epoch + 1}"
    fix = "trainer.precision=32-true, or a lower scale.max_lr"
    paths = [one.path for one in trainer.callbacks if isinstance(one, ResumeCheckpoint) and one.path.exists()]  # type: ignore[attr-defined]
    kept = "".join(f". The last good checkpoint is {path}" for path in paths)
    return UserError(f"{what} is not finite", got=f"nan or inf at {where}", expected="a number", fix=fix + kept)
