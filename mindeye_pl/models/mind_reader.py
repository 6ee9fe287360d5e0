"""Mind Reader: mappers from voxels to an image embedding and a caption embedding.

Legend: B batch, b trials of one subject, V voxels, C captions of an image, K augmented views, D embedding width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.models.base import BrainDecoder, OptimizerFactory, SchedulerFactory
from mindeye_pl.models.objectives import MapperObjective
from mindeye_pl.models.parts.mapper import Mapper
from mindeye_pl.models.parts.part import read_subjects
from mindeye_pl.nn.clip.embeddings import clamp_then_normalise, draw_caption, mean_caption
from mindeye_pl.types import BatchGrowth, BrainBatch, PartLoss, Prediction


class MindReader(BrainDecoder):
    """The two mappers of Mind Reader (arXiv 2210.01769); a generator draws images from their outputs.

    The mappers share no weights, so that one run trains both; the published code trains them in two.

    Args:
        image_mapper: voxels to the image's embedding.
        caption_mapper: voxels to its caption's embedding; None omits it.
        objective: settings of the loss.
    """

    def __init__(
        self,
        image_mapper: Mapper,
        caption_mapper: Mapper | None = None,
        objective: MapperObjective | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
    ):
        super().__init__(optimizer, scheduler)
        self.image_mapper, self.caption_mapper = image_mapper, caption_mapper
        self.objective = objective or MapperObjective()

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """Return image and caption embedding as tokens `(B, 2, D)`, for one `(b, V_s)` tensor per subject.

        Without a caption mapper the tokens are `(B, 1, D)`. The retrieval embedding `(B, 1, D)` is the image's.
        """
        image = read_subjects(self.image_mapper, voxels, subject_index)  # (B, D)
        caption = [] if self.caption_mapper is None else [read_subjects(self.caption_mapper, voxels, subject_index)]
        tokens = self._transformed(torch.stack([image, *caption], dim=1))  # (B, 2, D)
        return Prediction(image, tokens, tokens[:, :1])

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """Return the sum of the mappers' losses in the epoch's stage (a or b).

        In training the targets are sampled from `views` and `captions`; in validation they are fixed.

        Raises:
            UserError: if a caption mapper has no target `captions`.
        """
        weights = self.objective.weights(epoch, num_epochs, training=self.training)

        def loss_of(mapper: Mapper, target: Tensor, name: str) -> PartLoss:
            predicted = read_subjects(mapper, batch.voxels, batch.subject_index)  # (B, D)
            return mapper.compute_loss(predicted, target, weights, temperature=self.objective.temperature, name=name)

        loss = loss_of(self.image_mapper, self._image_target(batch), "image")
        loss.outputs["retrieval"] = loss.outputs["image"][:, None]  # (B, 1, D)
        if self.caption_mapper is not None:
            loss += loss_of(self.caption_mapper, self._caption_target(batch), "caption")
        return loss

    def retrieval_scores(self, batch: BrainBatch, loss: PartLoss) -> dict[str, Tensor]:
        """Return the retrieval scores by image embedding and, with a caption mapper, by caption embedding."""
        scores = super().retrieval_scores(batch, loss)
        if (caption := loss.outputs.get("caption")) is not None:
            scores["caption_retrieval"] = retrieval_accuracy(query=caption, gallery=self._caption_target(batch))
        return scores

    def batch_growth(self, num_epochs: int) -> BatchGrowth | None:
        """Return the growth of the batches in stage b."""
        return self.objective.growth(num_epochs)

    @classmethod
    def voxel_counts_in(cls, weights: Mapping[str, Tensor]) -> list[int]:
        """Return V of each subject as stored by the image mapper, because padding hides it from the shapes."""
        counts = weights.get("image_mapper.voxels.counts")
        return [] if counts is None else counts.tolist()

    def _transformed(self, embeddings: Tensor) -> Tensor:
        """Apply the objective's transform of the outputs. Shape: `(B, 2, D)` -> `(B, 2, D)`."""
        if self.objective.outputs == "published":
            return embeddings
        clamp = self.objective.clamp
        return clamp_then_normalise(embeddings, limit=float("inf") if clamp is None else clamp)

    def _image_target(self, batch: BrainBatch) -> Tensor:
        """Return the image's own embedding `(B, D)`; in training that of a random augmented view, if there are any."""
        views = batch.targets.get("views")
        if not self.training or views is None:
            return batch.targets["tokens"][:, 0].float()
        count, num_views = views.shape[:2]
        drawn = torch.randint(num_views, (count,), device=views.device)
        return views[torch.arange(count, device=drawn.device), drawn].float()

    def _caption_target(self, batch: BrainBatch) -> Tensor:
        """Return a random caption's embedding `(B, D)` in training, the mean of all in validation."""
        if (captions := batch.targets.get("captions")) is None:
            what = "the caption mapper has no captions to learn"
            raise UserError(what, got="none in the data", fix="caption_mapper=none")
        return (draw_caption if self.training else mean_caption)(captions).float()
