"""What MindEye2 and MindEye1 are: functional alignment, backbone and diffusion prior, trained in one step.

Legend: B batch, b one subject's share, V voxels, h hidden width, S tokens, D token width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.losses.mixco import draw_mixco, mix_voxels
from mindeye_pl.models.base import BrainDecoder, OptimizerFactory, SchedulerFactory
from mindeye_pl.models.objective import Objective
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone, BackboneStage, ResidualBackbone
from mindeye_pl.models.parts.low_level import LowLevelStage
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.types import BrainBatch, PartLoss, Prediction


class BrainToTokens(BrainDecoder):
    """Voxels to target tokens; a system says which parts it is made of.

    Args:
        alignment: voxels of each subject to the shared space.
        backbone: shared space to tokens and retrieval embedding.
        low_level: to a blurry reconstruction, from the backbone's hidden vector or from the voxels; None leaves it out.
        prior: backbone tokens to target tokens; None leaves the backbone tokens as the prediction.
        objective: the numbers of the loss.
        optimizer: see `BrainDecoder`.
        scheduler: see `BrainDecoder`.
    """

    def __init__(
        self,
        alignment: FunctionalAlignment,
        backbone: BackboneStage,
        low_level: LowLevelStage | None = None,
        prior: DiffusionPrior | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
    ):
        super().__init__(optimizer, scheduler)
        self.alignment = alignment
        self.backbone = backbone
        self.low_level = low_level
        self.prior = prior
        self.objective = objective or Objective()

    def align(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Tensor:
        """One `(b, V_s)` tensor for each subject to `(B, h)`, concatenated in their order."""
        return torch.cat([self.alignment(v, index) for v, index in zip(voxels, subject_index, strict=True)])

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """One `(b, V_s)` tensor for each subject to everything that the parts read from them."""
        aligned = self.align(voxels, subject_index)  # (B, h)
        hidden = self.backbone.network.hidden(aligned)  # (B, h)
        tokens, retrieval = self.backbone.network.read_out(hidden)  # (B, S, D) each
        latents, maps = None, None
        if self.low_level is not None:
            latents, maps = self.low_level(self.low_level.hidden(voxels, subject_index, hidden))
        return Prediction(aligned, tokens, retrieval, latents, maps)

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """Contrastive, prior and low-level loss; voxels are mixed in training's first epochs, targets never."""
        objective, mixing, voxels = self.objective, None, batch.voxels
        phase = objective.phase(epoch, num_epochs, training=self.training)
        if phase.mixes:
            mixing = draw_mixco(
                [len(v) for v in voxels], permutation=objective.mixco_permutation, diagonal=objective.mixco_diagonal
            )
            voxels = mix_voxels(voxels, mixing)
        negatives = objective.negatives if self.training else "local"  # all ranks validate the same images
        targets = batch.tokens.float()  # (B, S, D)
        loss = self.backbone.compute_loss(
            self.align(voxels, batch.subject_index),
            targets,
            objective,
            temperature=phase.temperature,
            mixing=mixing,
            soft=phase.soft,
            negatives=negatives,
        )
        if self.prior is not None:
            loss += self.prior.compute_loss(loss.outputs["tokens"], targets, scale=objective.prior_scale)
        if self.low_level is not None and batch.latents is not None:
            maps = self.low_level.draw_views(batch.maps) if batch.maps is not None else (None, None)
            hidden = self.low_level.hidden_of(batch, loss.outputs["hidden"])  # (B, h)
            loss += self.low_level.compute_loss(
                hidden, batch.latents, *maps, scale=objective.low_level_scale, negatives=negatives
            )
        return loss

    @torch.no_grad()
    def reconstruct(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """`(B, V)` voxels of one subject to `(B, S, D)` prior tokens, from which the image is made."""
        tokens = self.predict(voxels, subject_index).tokens
        return tokens if self.prior is None else self.prior.renormalised(self.prior.sample(tokens))


class MindEye1(BrainToTokens):
    """The MindEye1 system (arXiv 2305.18274): a residual MLP, and a prior whose samples are renormalised.

    Its functional alignment is the first linear map of the published backbone. What a blurry reconstruction is made
    from is a model of its own.
    """

    backbone: ResidualBackbone


class MindEye2(BrainToTokens):
    """The MindEye2 system (arXiv 2403.11207): mixer blocks, and a low-level branch on their hidden vector."""

    backbone: Backbone
