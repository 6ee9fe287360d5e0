"""Settings of the training objectives, and their course over the epochs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mindeye_pl.losses.contrastive import temperature_schedule
from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, TEMPERATURE, MapperWeights
from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.types import (
    BatchGrowth,
    Clamp,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    PublishedOrCorrected,
)


@dataclass(frozen=True)
class Objective:
    """Objective of the MindEye systems (MindEye2, spec sections 6.1 to 6.5; MindEye1, spec section 5).

    BiMixCo in the first epochs, then SoftCLIP with a rising temperature; the prior's loss in all epochs.

    Attributes:
        mixup_fraction: fraction of the epochs in which voxels are mixed.
        bimixco_temperature: temperature of BiMixCo's logits.
        softclip_temperature_start: SoftCLIP's temperature in its first epoch.
        softclip_temperature_end: SoftCLIP's temperature in its last epoch.
        validation_temperature: SoftCLIP's temperature in the validation loss, with `validation=fixed`.
        validation: `fixed` (MindEye2), SoftCLIP at one temperature | `by_phase` (MindEye1), InfoNCE in the epochs that
            mix voxels, then SoftCLIP at the epoch's temperature.
        contrastive_scale: weight of the contrastive loss; 0 omits it.
        prior_scale: weight of the diffusion prior's loss; without a prior that of the tokens' squared error.
        low_level_scale: weight of the low-level part's loss.
        mixco_permutation: `published` | `corrected`, see `losses.mixco`.
        mixco_diagonal: `published` | `corrected`, see `losses.mixco`.
        negatives: `local` (published) | `gathered`, see `losses.negatives`; used in training only.
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

    def phase(self, epoch: int, num_epochs: int, *, training: bool) -> "Phase":
        """Return the contrastive loss's form in an epoch of training or validation."""
        if not training and self.validation == "fixed":
            return Phase(mixes=False, soft=True, temperature=self.validation_temperature)
        mixing = int(self.mixup_fraction * num_epochs)  # epochs, the first ones
        if epoch < mixing:
            return Phase(mixes=training, soft=False, temperature=self.bimixco_temperature)
        start, end = self.softclip_temperature_start, self.softclip_temperature_end
        temperatures = temperature_schedule(num_epochs - mixing, start=start, end=end)
        return Phase(mixes=False, soft=True, temperature=float(temperatures[epoch - mixing]))


class Phase(NamedTuple):
    """Form of the contrastive loss in one epoch."""

    mixes: bool  # voxels, for BiMixCo
    soft: bool  # SoftCLIP's targets
    temperature: float  # of the logits


@dataclass(frozen=True)
class MapperObjective:
    """Objective of Mind Reader's mappers (spec sections 3.3, 4.1 and 4.2).

    Squared error and cosine in the first epochs (stage a), with a contrastive loss added in the rest (stage b). The
    published stages are two runs, and it is uncertain whether the second starts from the weights of the first; here it
    does, because one training runs both. Without stage a, stage b starts from random weights.

    Attributes:
        first_share: fraction of the epochs in stage a.
        contrastive: False keeps stage a in all epochs.
        temperature: of the contrastive loss.
        batch_growth: factor of the batch size from stage a to stage b.
        outputs: transform of the mappers' outputs. `published` leaves them unchanged; `corrected` clamps and normalises
            them as the targets are.
        clamp: limit of `corrected`, the embedder's own; None if its embeddings are not clamped.
    """

    first_share: Fraction = 0.5
    contrastive: bool = True
    temperature: PositiveFloat = TEMPERATURE
    batch_growth: PositiveInt = 4
    outputs: PublishedOrCorrected = "published"
    clamp: Clamp | None = 1.5

    def first_epochs(self, num_epochs: int) -> int:
        """Return the number of epochs in stage a; they come first."""
        return int(self.first_share * num_epochs) if self.contrastive else num_epochs

    def weights(self, epoch: int, num_epochs: int, *, training: bool) -> MapperWeights:
        """Return the weights of the loss's parts; validation always uses stage b's, so that its curve is comparable."""
        return STAGE_A if training and epoch < self.first_epochs(num_epochs) else STAGE_B

    def growth(self, num_epochs: int) -> BatchGrowth | None:
        """Return the growth of the batches; None if they keep their size."""
        first = self.first_epochs(num_epochs)
        return BatchGrowth(first, self.batch_growth) if self.batch_growth > 1 and first < num_epochs else None
