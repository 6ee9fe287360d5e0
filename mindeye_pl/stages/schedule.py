"""Learning-rate schedules (MindEye2, spec section 6.6)."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def published_onecycle(optimizer: Optimizer, *, epochs: int, iterations_per_epoch: int, max_lr: float) -> OneCycleLR:
    """One cycle with its peak after two epochs, AdamW's beta1 going 0.95, 0.85, 0.95 against it.

    Args:
        optimizer: AdamW.
        epochs: of training.
        iterations_per_epoch: optimiser steps in each.
        max_lr: at the peak; it starts at a 25th and ends at a 25,000th of it. A parameter group with an `lr_scale` has
            that share of it.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[max_lr * group.get("lr_scale", 1.0) for group in optimizer.param_groups],
        total_steps=epochs * iterations_per_epoch,
        pct_start=min(2 / epochs, 0.5),  # a run of fewer than four epochs peaks half way
        final_div_factor=1000,
    )
