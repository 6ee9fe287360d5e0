"""Settings of a diffusion model's sampler."""

from dataclasses import dataclass
from typing import Annotated, Literal

from mindeye_pl.nn.diffusion.solvers import SOLVERS
from mindeye_pl.types import Fraction, NonNegativeFloat, OneOf, PositiveInt, PublishedOrCorrected

#: Latents of the init image.
DraftPosterior = Literal["mode", "sampled"]


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler; a decoder of one step, a GAN's generator for instance, ignores them.

    Attributes:
        solver: a key of `solvers.SOLVERS`.
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
