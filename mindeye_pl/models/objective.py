"""The numbers and phases of the objective (spec of MindEye2, sections 6.1 to 6.5; of MindEye1, section 5)."""

from dataclasses import dataclass
from typing import Literal

from mindeye_pl.losses.contrastive import temperature_schedule
from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.types import Fraction, NonNegativeFloat, PositiveFloat, PublishedOrCorrected


@dataclass(frozen=True)
class Objective:
    """BiMixCo in the first epochs, SoftCLIP with a rising temperature after them, the prior's loss from the start.

    Attributes:
        mixup_fraction: share of the epochs that mix voxels.
        bimixco_temperature: of BiMixCo's logits.
        softclip_temperature_start: SoftCLIP's in its first epoch.
        softclip_temperature_end: and in its last.
        validation_temperature: SoftCLIP's for the validation loss, where that is the same in every epoch.
        validation: `fixed` (MindEye2), SoftCLIP at one temperature | `by_phase` (MindEye1), InfoNCE while training
            mixes voxels, then SoftCLIP at the epoch's temperature.
        contrastive_scale: weight of the contrastive loss; 0 switches it off.
        prior_scale: weight of the diffusion prior's loss.
        low_level_scale: weight of the low-level branch's loss.
        mixco_permutation: `published` | `corrected`, see `losses.mixco`.
        mixco_diagonal: `published` | `corrected`, see `losses.mixco`.
        negatives: `local` (published) | `gathered`, see `losses.negatives`; training alone asks for it.
    """

    mixup_fraction: Fraction = 0.33
    bimixco_temperature: PositiveFloat = 0.006
    softclip_temperature_start: PositiveFloat = 0.004
    softclip_temperature_end: PositiveFloat = 0.0075
    validation_temperature: PositiveFloat = 0.006
    validation: Literal["fixed", "by_phase"] = "fixed"
    contrastive_scale: NonNegativeFloat = 1.0
    prior_scale: NonNegativeFloat = 30.0
    low_level_scale: NonNegativeFloat = 0.5
    mixco_permutation: PublishedOrCorrected = "published"
    mixco_diagonal: PublishedOrCorrected = "published"
    negatives: Negatives = "local"

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

    def phase(self, epoch: int, num_epochs: int, *, training: bool) -> "Phase":
        """What the contrastive loss is in an epoch of training or of validation."""
        if not training and self.validation == "fixed":
            return Phase(mixes=False, soft=True, temperature=self.validation_temperature)
        if epoch < self.mixing_epochs(num_epochs):
            return Phase(mixes=training, soft=False, temperature=self.bimixco_temperature)
        return Phase(mixes=False, soft=True, temperature=self.softclip_temperature(epoch, num_epochs))


@dataclass(frozen=True)
class Phase:
    """What the contrastive loss is in one epoch.

    Attributes:
        mixes: whether voxels are mixed, for BiMixCo.
        soft: whether it is SoftCLIP.
        temperature: of the logits.
    """

    mixes: bool
    soft: bool
    temperature: float
