"""Learning-rate schedules (MindEye2, spec section 6.6; Mind Reader, section 4.2)."""

from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from mindeye_pl.types import Fraction, PositiveFloat, PositiveFraction, PositiveInt, PublishedOrCorrected


def published_onecycle(
    optimizer: Optimizer, *, iterations_per_epoch: Sequence[int], max_lr: PositiveFloat
) -> OneCycleLR:
    """Return a one-cycle schedule with its peak after two epochs, and AdamW's beta1 going 0.95, 0.85, 0.95.

    With fewer than four epochs the peak is half way, where the published share 2/epochs leaves too little to fall.

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
        pct_start=min(sum(iterations_per_epoch[:2]) / total_steps, 0.5),
        final_div_factor=1000,
    )


def step_decay(
    optimizer: Optimizer,
    *,
    iterations_per_epoch: Sequence[int],
    factor: PositiveFraction = 0.8,
    every: PositiveInt = 10,
    moments: PublishedOrCorrected = "published",
    restart: PublishedOrCorrected = "published",
    first_share: Fraction = 0.0,
) -> LambdaLR:
    """Return a schedule that multiplies the learning rate by `factor` at intervals (Mind Reader, spec section 4.2).

    Args:
        optimizer: its learning rate is that of the first epochs; a parameter group's `lr_scale` multiplies it.
        iterations_per_epoch: optimiser steps of each epoch.
        factor: below one.
        every: epochs between two decays.
        moments: `published` resets Adam's moments at each decay, because the published code makes a new optimiser |
            `corrected` keeps them.
        restart: at the start of the second stage, `published` returns to the first learning rate and resets the
            moments, because the published stages are two runs | `corrected` has one schedule over both stages.
        first_share: fraction of the epochs in the first stage; 0 for a training of one stage.
    """
    second = int(first_share * len(iterations_per_epoch)) if restart == "published" else 0  # first epoch of the stage
    starts = [0, *accumulate(iterations_per_epoch)]  # step at the start of each epoch
    changes, resets = [], set()
    for epoch in range(1, len(iterations_per_epoch)):
        decays, rest = divmod(epoch - second if epoch >= second else epoch, every)
        if rest == 0:
            changes.append((starts[epoch], decays))
            if moments == "published" or epoch == second:
                resets.add(starts[epoch])
    return _StepDecay(optimizer, changes, factor, resets)


class _StepDecay(LambdaLR):
    """Schedule of `step_decay`.

    Args:
        optimizer: its moments are reset after the steps `resets`.
        changes: steps, and the number of decays that the learning rate has from then on.
        factor: of a decay.
        resets: some of these steps.
    """

    def __init__(
        self, optimizer: Optimizer, changes: Sequence[tuple[int, int]], factor: float, resets: Collection[int]
    ):
        self._resets = sorted(resets)

        def decays(step: int) -> int:
            return next((count for change, count in reversed(changes) if step >= change), 0)

        def multiplier(lr_scale: float) -> Callable[[int], float]:
            return lambda step: lr_scale * factor ** decays(step)

        super().__init__(optimizer, [multiplier(group.get("lr_scale", 1.0)) for group in optimizer.param_groups])

    def step(self, epoch: int | None = None) -> None:
        """Advance the schedule after a step of the optimiser."""
        super().step(epoch)
        if self.last_epoch in self._resets:
            self.optimizer.state.clear()
