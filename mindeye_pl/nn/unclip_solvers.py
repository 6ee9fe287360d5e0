"""Solvers of the unCLIP's sampling (MindEye2, spec sections 7.1, 7.4 and 7.5).

A solver is a scheduler of diffusers with its timesteps set.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

TRAIN_TIMESTEPS = 1000
#: Of the published discretisation: the square roots of beta run linearly between those of the two ends.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def training_sigmas() -> Tensor:
    """Noise over signal at each timestep, `(1000,)` float64, ascending."""
    roots = np.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, TRAIN_TIMESTEPS)  # type: ignore[operator]
    kept = np.cumprod(1 - roots**2)
    return torch.from_numpy(np.sqrt((1 - kept) / kept))


def published_timesteps(steps: int) -> list[int]:
    """999 downwards in equal strides, rounded down; none of the library's spacings gives these."""
    return np.linspace(TRAIN_TIMESTEPS - 1, 0, steps, endpoint=False).astype(int).tolist()


def euler_published(steps: int) -> Any:
    """Deterministic Euler over the published timesteps, ending at sigma 0."""
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS, prediction_type="epsilon", final_sigmas_type="zero", **BETAS
    )
    scheduler.set_timesteps(timesteps=published_timesteps(steps))
    return scheduler


def dpm_multistep(steps: int) -> Any:
    """DPM-Solver++ of second order: about as good as the published solver in a third of its steps."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS, prediction_type="epsilon", timestep_spacing="trailing", **BETAS
    )
    scheduler.set_timesteps(steps)
    return scheduler


def unipc(steps: int) -> Any:
    """UniPC, a predictor and corrector for few steps."""
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS, prediction_type="epsilon", timestep_spacing="trailing", **BETAS
    )
    scheduler.set_timesteps(steps)
    return scheduler


SOLVERS: dict[str, Callable[[int], Any]] = {
    "euler_published": euler_published,
    "dpm_multistep": dpm_multistep,
    "unipc": unipc,
}
