"""The numbers and stages of the mappers' objective (Mind Reader, spec sections 3.3, 4.1 and 4.2)."""

from dataclasses import dataclass

from mindeye_pl.errors import UserError
from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, TEMPERATURE, MapperWeights
from mindeye_pl.types import BatchGrowth

OUTPUTS = ("published", "corrected")


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

    Raises:
        UserError: for a choice of outputs that there is not, a share that is none, or batches that do not grow.
    """

    first_share: float = 0.5
    contrastive: bool = True
    temperature: float = TEMPERATURE
    batch_growth: int = 4
    outputs: str = "published"
    clamp: float | None = 1.5

    def __post_init__(self) -> None:
        if self.outputs not in OUTPUTS:
            raise UserError("objective.outputs: no such choice", got=self.outputs, expected=" or ".join(OUTPUTS))
        if not 0 <= self.first_share <= 1:
            raise UserError("objective.first_share is a share of the epochs", got=self.first_share, expected="0 to 1")
        if self.batch_growth < 1:
            raise UserError("objective.batch_growth", got=self.batch_growth, expected="a whole number, at least 1")

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
