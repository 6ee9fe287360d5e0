"""The numbers and phases of MindEye2's objective (spec of MindEye2, sections 6.1 to 6.5)."""

from dataclasses import dataclass

from mindeye_pl.errors import UserError
from mindeye_pl.losses.contrastive import temperature_schedule
from mindeye_pl.losses.negatives import CHOICES


@dataclass(frozen=True)
class Objective:
    """BiMixCo in the first epochs, SoftCLIP with a rising temperature after them, the prior's loss from the start.

    Attributes:
        mixup_fraction: share of the epochs that mix voxels.
        bimixco_temperature: of BiMixCo's logits.
        softclip_temperature_start: SoftCLIP's in its first epoch.
        softclip_temperature_end: and in its last.
        validation_temperature: SoftCLIP's for the validation loss.
        contrastive_scale: weight of the contrastive loss; 0 switches it off.
        prior_scale: weight of the diffusion prior's loss.
        low_level_scale: weight of the low-level branch's loss.
        mixco_permutation: `published` | `corrected`, see `losses.mixco`.
        mixco_diagonal: `published` | `corrected`, see `losses.mixco`.
        negatives: `local` (published) | `gathered`, see `losses.negatives`; training alone asks for it.

    Raises:
        UserError: for a choice of negatives that there is not.
    """

    mixup_fraction: float = 0.33
    bimixco_temperature: float = 0.006
    softclip_temperature_start: float = 0.004
    softclip_temperature_end: float = 0.0075
    validation_temperature: float = 0.006
    contrastive_scale: float = 1.0
    prior_scale: float = 30.0
    low_level_scale: float = 0.5
    mixco_permutation: str = "published"
    mixco_diagonal: str = "published"
    negatives: str = "local"

    def __post_init__(self) -> None:
        if self.negatives not in CHOICES:
            raise UserError("objective.negatives: no such choice", seen=self.negatives, wanted=" or ".join(CHOICES))

    def mixing_epochs(self, num_epochs: int) -> int:
        """The number of epochs that mix; they come first."""
        return int(self.mixup_fraction * num_epochs)

    def softclip_temperature(self, epoch: int, num_epochs: int) -> float:
        """SoftCLIP's temperature in an epoch after the mixing ones."""
        mixing = self.mixing_epochs(num_epochs)
        schedule = temperature_schedule(
            num_epochs - mixing, start=self.softclip_temperature_start, end=self.softclip_temperature_end
        )
        return float(schedule[epoch - mixing])
