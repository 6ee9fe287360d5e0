"""Solvers of unCLIP and refiner (MindEye2, spec sections 7.1, 7.4, 7.5 and 9; MindEye1, spec section 8).

A solver is a scheduler of diffusers with its timesteps set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.types import Fraction, NonNegativeFloat, OneOf, PositiveInt, PublishedOrCorrected

TRAIN_TIMESTEPS = 1000
_BETA_START, _BETA_END = 0.00085, 0.012
#: Published training: the square roots of beta are linear between those of both ends.
_BETAS: dict[str, Any] = {"beta_start": _BETA_START, "beta_end": _BETA_END, "beta_schedule": "scaled_linear"}
_TRAINING = _BETAS | {"num_train_timesteps": TRAIN_TIMESTEPS, "prediction_type": "epsilon"}


def training_sigmas() -> Tensor:
    """Return the noise-to-signal ratio at each timestep, `(1000,)` float64, ascending."""
    kept = np.cumprod(1 - np.linspace(_BETA_START**0.5, _BETA_END**0.5, TRAIN_TIMESTEPS) ** 2)
    return torch.from_numpy(np.sqrt((1 - kept) / kept))


def published_timesteps(steps: int) -> list[int]:
    """Return timesteps from 999 down in equal strides, rounded down; diffusers has no such spacing."""
    return np.linspace(TRAIN_TIMESTEPS - 1, 0, steps, endpoint=False).astype(int).tolist()


def euler_published(steps: int) -> Any:
    """Return deterministic Euler on the published timesteps, ending at sigma 0."""
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(final_sigmas_type="zero", **_TRAINING)
    scheduler.set_timesteps(timesteps=published_timesteps(steps))
    return scheduler


def dpm_multistep(steps: int) -> Any:
    """Return DPM-Solver++ of second order, about as good as the published solver in a third of its steps."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(timestep_spacing="trailing", **_TRAINING)
    scheduler.set_timesteps(steps)
    return scheduler


def ddim(steps: int) -> Any:
    """Return deterministic DDIM in equal strides: Euler at unit variance, the solver of a distilled unCLIP."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(solver_order=1, timestep_spacing="trailing", **_TRAINING)
    scheduler.set_timesteps(steps)
    return scheduler


def unipc(steps: int, **options: Any) -> Any:
    """Return UniPC, a predictor-corrector of second order for few steps."""
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(**{"timestep_spacing": "trailing"} | options, **_TRAINING)
    scheduler.set_timesteps(steps)
    return scheduler


def unipc_published(steps: int) -> Any:
    """Return MindEye1's UniPC: equal strides down from 999, ending at timestep 0 and its noise.

    It takes the betas of Versatile Diffusion's scheduler settings; UniPC has neither an offset of the steps nor a last
    alpha of one.
    """
    return unipc(steps, timestep_spacing="linspace", final_sigmas_type="sigma_min")


SOLVERS: dict[str, Callable[[int], Any]] = {
    "euler_published": euler_published,
    "dpm_multistep": dpm_multistep,
    "ddim": ddim,
    "unipc": unipc,
    "unipc_published": unipc_published,
}


#: Latents of the init image.
DraftPosterior = Literal["mode", "sampled"]


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler; a decoder of one step, a GAN's generator for instance, ignores them.

    Attributes:
        solver: a key of `SOLVERS`.
        steps: of the solver.
        guidance: classifier-free; 1 for none.
        offset: amplitude of the offset noise in the starting latents.
        strength: fraction of the steps that are run from the init image; 1 starts from noise alone, as MindEye2 does,
            and 0 returns the init image.
        draft_range: range in which the VAE gets the init image, "published" | "corrected", see `UnCLIPModel.encode`.
        draft_posterior: latents of the init image: "mode" of the VAE's posterior, or "sampled" from it, as MindEye1
            does.
    """

    solver: Annotated[str, OneOf(SOLVERS)] = "dpm_multistep"
    steps: PositiveInt = 20
    guidance: NonNegativeFloat = 1.0
    offset: NonNegativeFloat = 0.0
    strength: Fraction = 1.0
    draft_range: PublishedOrCorrected = "corrected"
    draft_posterior: DraftPosterior = "mode"


def integrate(
    scheduler: Any,
    latents: Tensor,
    predict: Callable[[Tensor, Tensor], Tensor],
    *,
    guidance: float,
    begin: int = 0,
    end: int | None = None,
) -> Tensor:
    """Run a new solver's steps from `begin` to before `end` and return the latents; those given are scaled for `begin`.

    `predict` returns the noise of latents of unit variance at timesteps `(N,)`. With classifier-free guidance N is 2 B:
    the latents without condition, then the same latents with it. A guidance of 1 is none, and N is B. Latents are
    `(B, C, h, w)`.
    """
    scheduler.set_begin_index(begin)
    for time in scheduler.timesteps[begin:end]:
        scaled = scheduler.scale_model_input(latents, time)
        scaled = scaled if guidance == 1 else torch.cat([scaled, scaled])
        predicted = predict(scaled, time.to(latents.device).expand(len(scaled))).float()
        if guidance != 1:
            without, given = predicted.chunk(2)
            predicted = without + guidance * (given - without)
        latents = scheduler.step(predicted, time, latents, return_dict=False)[0]
    return latents
