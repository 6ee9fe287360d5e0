"""Mind Reader: mappers from voxels to an image embedding and a caption embedding.

Legend: B batch, b one subject's share, V voxels, C captions of an image, K augmented views, D embedding width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.models.base import BrainDecoder, OptimizerFactory, SchedulerFactory
from mindeye_pl.models.mapper_objective import MapperObjective
from mindeye_pl.models.parts.mapper import MapperStage
from mindeye_pl.nn.clip.embeddings import clamp_then_normalise, draw_caption, mean_caption
from mindeye_pl.types import BatchGrowth, BrainBatch, PartLoss, Prediction


class MindReader(BrainDecoder):
    """The mappers of Mind Reader (arXiv 2210.01769), trained beside each other; a generator reads what they predict.

    They share no weight, so that one run trains what the published code trains in two.

    Args:
        image_mapper: voxels to the image's embedding.
        caption_mapper: voxels to the embedding of its caption; None leaves it out.
        objective: the numbers of the loss.
        optimizer: see `BrainDecoder`.
        scheduler: see `BrainDecoder`.
    """

    def __init__(
        self,
        image_mapper: MapperStage,
        caption_mapper: MapperStage | None = None,
        objective: MapperObjective | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
    ):
        super().__init__(optimizer, scheduler)
        self.image_mapper = image_mapper
        self.caption_mapper = caption_mapper
        self.objective = objective or MapperObjective()

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """One `(b, V_s)` tensor for each subject to tokens `(B, 2, D)`, the image embedding and the caption embedding.

        Without a caption mapper they are `(B, 1, D)`. The retrieval embedding `(B, 1, D)` is that of the image.
        """
        image = _mapped(self.image_mapper, voxels, subject_index)  # (B, D)
        caption = [] if self.caption_mapper is None else [_mapped(self.caption_mapper, voxels, subject_index)]
        tokens = self._handed_on(torch.stack([image, *caption], dim=1))  # (B, 2, D)
        return Prediction(image, tokens, tokens[:, :1])

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """The loss of the epoch's stage for each mapper; in training its target is drawn, in validation it is fixed.

        Raises:
            UserError: without captions for a caption mapper.
        """
        weights = self.objective.weights(epoch, num_epochs, training=self.training)

        def loss_of(mapper: MapperStage, target: Tensor, name: str) -> PartLoss:
            predicted = _mapped(mapper, batch.voxels, batch.subject_index)  # (B, D)
            return mapper.compute_loss(predicted, target, weights, temperature=self.objective.temperature, name=name)

        loss = loss_of(self.image_mapper, self._image_target(batch), "image")
        loss.outputs["retrieval"] = loss.outputs["image"][:, None]  # (B, 1, D)
        if self.caption_mapper is not None:
            loss += loss_of(self.caption_mapper, self._caption_target(batch), "caption")
        return loss

    @torch.no_grad()
    def reconstruct(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """`(B, V)` voxels of one subject to `(B, 2, D)` image and caption embedding, from which an image is made."""
        return self.predict(voxels, subject_index).tokens

    def retrieval_scores(self, batch: BrainBatch, loss: PartLoss) -> dict[str, Tensor]:
        """Among the images of the batch by their images, and by their captions where they are read too."""
        scores = super().retrieval_scores(batch, loss)
        if (caption := loss.outputs.get("caption")) is not None:
            scores["caption_retrieval"] = retrieval_accuracy(query=caption, gallery=self._caption_target(batch))
        return scores

    def batch_growth(self, num_epochs: int) -> BatchGrowth | None:
        """Part b has larger batches."""
        return self.objective.growth(num_epochs)

    @classmethod
    def voxel_counts_in(cls, weights: Mapping[str, Tensor]) -> list[int]:
        """As the image mapper keeps them: padding hides them from the shapes."""
        counts = weights.get("image_mapper.voxels.counts")
        return [] if counts is None else counts.tolist()

    def _handed_on(self, embeddings: Tensor) -> Tensor:
        """Embeddings as whatever reads them gets them, `(B, 2, D)`."""
        if self.objective.outputs == "published":
            return embeddings
        clamp = self.objective.clamp
        return clamp_then_normalise(embeddings, limit=float("inf") if clamp is None else clamp)

    def _image_target(self, batch: BrainBatch) -> Tensor:
        """The image's own embedding `(B, D)`; in training that of an augmented view, where there are such."""
        if not self.training or batch.views is None:
            return batch.tokens[:, 0].float()
        count, num_views = batch.views.shape[:2]
        lots = torch.randint(num_views, (count,), device=batch.views.device)
        return batch.views[torch.arange(count, device=lots.device), lots].float()

    def _caption_target(self, batch: BrainBatch) -> Tensor:
        """One caption's embedding `(B, D)` in training, the mean of all in validation."""
        if batch.captions is None:
            raise UserError(
                "the caption mapper has no captions to learn", got="none in the data", fix="caption_mapper=none"
            )
        return (draw_caption if self.training else mean_caption)(batch.captions).float()


def _mapped(mapper: MapperStage, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Tensor:
    """Voxels of each subject to embeddings `(B, D)`, in their order."""
    return torch.cat([mapper(v, index) for v, index in zip(voxels, subject_index, strict=True)])
