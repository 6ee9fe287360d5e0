"""Learning-rate schedules (MindEye2, spec section 6.6; Mind Reader, section 4.2)."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from mindeye_pl.types import PositiveFloat, PositiveFraction, PositiveInt, PublishedOrCorrected


def published_onecycle(
    optimizer: Optimizer, *, iterations_per_epoch: Sequence[int], max_lr: PositiveFloat
) -> OneCycleLR:
    """Return a one-cycle schedule with its peak after two epochs, and AdamW's beta1 going 0.95, 0.85, 0.95.

    Args:
        optimizer: AdamW.
        iterations_per_epoch: optimiser steps of each epoch.
        max_lr: learning rate at the peak; the schedule starts at a 25th and ends at a 25,000th of it. A parameter
            group's `lr_scale` multiplies it.
    """
    total_steps = sum(iterations_per_epoch)
    return OneCycleLR(
        optimizer,
        max_lr=[max_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=min(sum(iterations_per_epoch[:2]) / total_steps, 0.5),  # fewer than four epochs peak half way
        final_div_factor=1000,
    )


def step_decay(
    optimizer: Optimizer,
    *,
    iterations_per_epoch: Sequence[int],
    factor: PositiveFraction = 0.8,
    every: PositiveInt = 10,
    moments: PublishedOrCorrected = "published",
) -> LambdaLR:
    """Return a schedule that multiplies the learning rate by `factor` at intervals (Mind Reader, spec section 4.2).

    Args:
        optimizer: its learning rate is that of the first epochs; a parameter group's `lr_scale` multiplies it.
        iterations_per_epoch: optimiser steps of each epoch.
        factor: below one.
        every: epochs between two decays.
        moments: `published` resets Adam's moments at each decay, because the published code makes a new optimiser |
            `corrected` keeps them.
    """
    ends = list(accumulate(iterations_per_epoch))  # steps at the end of each epoch
    return _StepDecay(optimizer, ends[every - 1 : -1 : every], factor, resets_moments=moments == "published")


class _StepDecay(LambdaLR):
    """Schedule of `step_decay`, which decays after the steps `decays`."""

    def __init__(self, optimizer: Optimizer, decays: Sequence[int], factor: float, *, resets_moments: bool):
        self._decays, self._resets_moments = list(decays), resets_moments

        def multiplier(lr_scale: float) -> Callable[[int], float]:
            return lambda step: lr_scale * factor ** sum(step >= decay for decay in decays)

        super().__init__(optimizer, [multiplier(group.get("lr_scale", 1.0)) for group in optimizer.param_groups])

    def step(self, epoch: int | None = None) -> None:
        """Advance the schedule after a step of the optimiser."""
        super().step(epoch)
        if self._resets_moments and self.last_epoch in self._decays:
            self.optimizer.state.clear()
