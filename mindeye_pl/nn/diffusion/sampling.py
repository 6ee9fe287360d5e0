"""Settings of a diffusion model's sampler."""

from dataclasses import dataclass

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.pixels import DRAFT_RANGES
from mindeye_pl.nn.diffusion.solvers import SOLVERS


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

    Raises:
        UserError: for an unknown choice or a strength outside [0, 1].
    """

    solver: str = "dpm_multistep"
    steps: int = 20
    guidance: float = 1.0
    offset: float = 0.0
    strength: float = 1.0
    draft_range: str = "corrected"
    draft_posterior: str = "mode"

    def __post_init__(self) -> None:
        choices = {"solver": list(SOLVERS), "draft_range": list(DRAFT_RANGES), "draft_posterior": ["mode", "sampled"]}
        for option, names in choices.items():
            if (value := getattr(self, option)) not in names:
                raise UserError(f"unknown {option}", got=value, expected=" or ".join(names))
        if not 0 <= self.strength <= 1:
            raise UserError("strength is a fraction of the steps", got=self.strength, expected="0 to 1")
