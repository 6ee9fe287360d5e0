"""Solvers of the unCLIP's and the refiner's sampling (MindEye2, spec sections 7.1, 7.4, 7.5 and 9; MindEye1, 8).

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


def unipc_published(steps: int) -> Any:
    """UniPC of second order as MindEye1 took it: equal strides down from 999, ending at timestep 0 and its noise.

    Of Versatile Diffusion's own scheduler settings it keeps the betas; an offset of the steps and a last alpha of one
    are none of UniPC's.
    """
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        prediction_type="epsilon",
        solver_order=2,
        solver_type="bh2",
        timestep_spacing="linspace",
        final_sigmas_type="sigma_min",
        **BETAS,
    )
    scheduler.set_timesteps(steps)
    return scheduler


SOLVERS: dict[str, Callable[[int], Any]] = {
    "euler_published": euler_published,
    "dpm_multistep": dpm_multistep,
    "unipc": unipc,
    "unipc_published": unipc_published,
}


def integrate(
    scheduler: Any, latents: Tensor, predict: Callable[[Tensor, Tensor], Tensor], *, guidance: float, begin: int = 0
) -> Tensor:
    """Latents after a solver's steps, with classifier-free guidance.

    Args:
        scheduler: fresh from one of `SOLVERS`.
        latents: `(B, C, h, w)` as the solver wants them at its step `begin`.
        predict: from latents of unit variance and timesteps `(N,)` to their noise. With guidance N is 2 B: the latents
            without their condition, then the same latents with it.
        guidance: 1 for none, and N is B.
        begin: number of steps that are left out at the start.
    """
    scheduler.set_begin_index(begin)
    for time in scheduler.timesteps[begin:]:
        scaled = scheduler.scale_model_input(latents, time)
        scaled = scaled if guidance == 1 else torch.cat([scaled, scaled])
        predicted = predict(scaled, time.to(latents.device).expand(len(scaled))).float()
        if guidance != 1:
            without, given = predicted.chunk(2)
            predicted = without + guidance * (given - without)
        latents = scheduler.step(predicted, time, latents, return_dict=False)[0]
    return latents
