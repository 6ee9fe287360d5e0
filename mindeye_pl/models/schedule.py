"""Learning-rate schedules (MindEye2, spec section 6.6; Mind Reader, section 4.2)."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from mindeye_pl.types import PositiveFloat, PositiveFraction, PositiveInt, PublishedOrCorrected


def published_onecycle(
    optimizer: Optimizer, *, epochs: int, iterations_per_epoch: int | Sequence[int], max_lr: PositiveFloat
) -> OneCycleLR:
    """One cycle with its peak after two epochs, AdamW's beta1 going 0.95, 0.85, 0.95 against it.

    Args:
        optimizer: AdamW.
        epochs: of training.
        iterations_per_epoch: optimiser steps in each, or one number for each.
        max_lr: at the peak; it starts at a 25th and ends at a 25,000th of it. A parameter group with an `lr_scale` has
            that share of it.
    """
    iterations = _of_each(epochs, iterations_per_epoch)
    total_steps = sum(iterations)
    return OneCycleLR(
        optimizer,
        max_lr=[max_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=min(sum(iterations[:2]) / total_steps, 0.5),  # a run of fewer than four epochs peaks half way
        final_div_factor=1000,
    )


def step_decay(
    optimizer: Optimizer,
    *,
    epochs: int,
    iterations_per_epoch: int | Sequence[int],
    factor: PositiveFraction = 0.8,
    every: PositiveInt = 10,
    moments: PublishedOrCorrected = "published",
) -> LambdaLR:
    """The learning rate times `factor` after every so many epochs (Mind Reader, spec section 4.2).

    Args:
        optimizer: its own learning rate is that of the first epochs; a parameter group with an `lr_scale` has that
            share of it.
        epochs: of training.
        iterations_per_epoch: optimiser steps in each, or one number for each.
        factor: below one.
        every: epochs between two decays.
        moments: `published` makes a new optimiser at each decay, so that Adam's moments begin anew | `corrected` keeps
            them.
    """
    ends = list(accumulate(_of_each(epochs, iterations_per_epoch)))  # steps at the end of each epoch
    return _StepDecay(optimizer, ends[every - 1 : -1 : every], factor, begins_anew=moments == "published")


class _StepDecay(LambdaLR):
    """See `step_decay`.

    Args:
        optimizer: to be scheduled.
        decays: the numbers of steps after which the learning rate falls.
        factor: by which.
        begins_anew: whether the optimiser forgets its moments then.
    """

    def __init__(self, optimizer: Optimizer, decays: Sequence[int], factor: float, *, begins_anew: bool):
        self._decays, self._begins_anew = list(decays), begins_anew

        def scaled(lr_scale: float, step: int) -> float:
            return lr_scale * factor ** sum(step >= decay for decay in decays)

        scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
        super().__init__(optimizer, [partial(scaled, scale) for scale in scales])

    def step(self, epoch: int | None = None) -> None:
        """After each step of the optimiser."""
        super().step(epoch)
        if self._begins_anew and self.last_epoch in self._decays:
            self.optimizer.state.clear()


def _of_each(epochs: int, iterations_per_epoch: int | Sequence[int]) -> list[int]:
    """Optimiser steps of each epoch."""
    if isinstance(iterations_per_epoch, int):
        return [iterations_per_epoch] * epochs
    assert len(iterations_per_epoch) == epochs, f"{len(iterations_per_epoch)} numbers for {epochs} epochs"
    return list(iterations_per_epoch)
