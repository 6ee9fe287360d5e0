"""The numbers and stages of the mappers' objective (Mind Reader, spec sections 3.3, 4.1 and 4.2)."""

from dataclasses import dataclass

from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, TEMPERATURE, MapperWeights
from mindeye_pl.types import BatchGrowth, Clamp, Fraction, PositiveFloat, PositiveInt, PublishedOrCorrected


@dataclass(frozen=True)
class MapperObjective:
    """Squared error and cosine in the first epochs (stage a), and a contrastive loss beside them in the rest (stage b).

    The published stages are two runs, and whether the second one starts from the first one's weights is not certain;
    here it does, because the training goes on. Without a first stage, stage b starts from random weights.

    Attributes:
        first_share: share of the epochs in stage a.
        contrastive: false stays in stage a throughout.
        temperature: of the contrastive loss.
        batch_growth: a batch of stage b has so many times the trials of one of stage a.
        outputs: of the mappers. `published` hands them on as they are; `corrected` clamps and normalises them as the
            targets are.
        clamp: of `corrected`; the embedder's own limit, None where its embeddings are not clamped.
    """

    first_share: Fraction = 0.5
    contrastive: bool = True
    temperature: PositiveFloat = TEMPERATURE
    batch_growth: PositiveInt = 4
    outputs: PublishedOrCorrected = "published"
    clamp: Clamp | None = 1.5

    def first_epochs(self, num_epochs: int) -> int:
        """The number of epochs in stage a; they come first."""
        return int(self.first_share * num_epochs) if self.contrastive else num_epochs

    def weights(self, epoch: int, num_epochs: int, *, training: bool) -> MapperWeights:
        """What each part counts; validation is always by stage b, so that one curve shows both."""
        return STAGE_A if training and epoch < self.first_epochs(num_epochs) else STAGE_B

    def growth(self, num_epochs: int) -> BatchGrowth | None:
        """When batches grow; None where they stay."""
        first = self.first_epochs(num_epochs)
        return BatchGrowth(first, self.batch_growth) if self.batch_growth > 1 and first < num_epochs else None
