"""MindEye2 and MindEye1: functional alignment, backbone and diffusion prior, trained in one step.

Legend: B batch, b trials of one subject, V voxels, h hidden width, S tokens, D token width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.losses.mixco import draw_mixco, mix_voxels
from mindeye_pl.models.base import BrainDecoder, OptimizerFactory, SchedulerFactory
from mindeye_pl.models.objectives import Objective
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.low_level import LowLevel
from mindeye_pl.models.parts.part import read_subjects
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.nn.diffusion.seeds import normal_draws
from mindeye_pl.types import BrainBatch, PartLoss, Prediction


class MindEye(BrainDecoder):
    """Base of the MindEye systems: voxels to target tokens.

    Args:
        alignment: each subject's voxels to the shared space.
        backbone: shared space to tokens and retrieval embedding.
        low_level: latents of a blurry reconstruction, from the backbone's hidden vector or from the voxels; None omits
            it.
        prior: backbone tokens to target tokens; None trains the backbone tokens themselves to be the target tokens, by
            squared error, and takes them as the prediction.
        objective: settings of the loss.
    """

    def __init__(
        self,
        alignment: FunctionalAlignment,
        backbone: Backbone,
        low_level: LowLevel | None = None,
        prior: DiffusionPrior | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
    ):
        super().__init__(optimizer, scheduler)
        self.alignment, self.backbone, self.low_level, self.prior = alignment, backbone, low_level, prior
        self.objective = objective or Objective()

    def align(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Tensor:
        """Align one `(b, V_s)` tensor per subject; return `(B, h)` in their order."""
        return read_subjects(self.alignment, voxels, subject_index)

    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """Return all parts' outputs for one `(b, V_s)` tensor per subject."""
        aligned = self.align(voxels, subject_index)  # (B, h)
        hidden = self.backbone.network.hidden(aligned)  # (B, h)
        tokens, retrieval = self.backbone.network.read_out(hidden)  # (B, S, D) each
        latents, maps = None, None
        if self.low_level is not None:
            latents, maps = self.low_level(self.low_level.hidden(voxels, subject_index, hidden))
        return Prediction(aligned, tokens, retrieval, latents, maps)

    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """Return the sum of contrastive, prior and low-level loss; without a prior that of the tokens in its place.

        Voxels are mixed in the first epochs of training, targets never, but the target `shared`: where there is one,
        aligned trials are pulled towards it in training. The low-level loss needs the target `latents`, and compares
        feature maps where there is a target `maps`.
        """
        objective, mixing, voxels = self.objective, None, batch.voxels
        phase = objective.phase(epoch, num_epochs, training=self.training)
        if phase.mixes:
            forms = {"permutation": objective.mixco_permutation, "diagonal": objective.mixco_diagonal}
            mixing = draw_mixco([len(v) for v in voxels], **forms)
            voxels = mix_voxels(voxels, mixing)
        negatives = objective.negatives if self.training else "local"  # all ranks validate the same images
        tokens = batch.targets["tokens"].float()  # (B, S, D)
        aligned = self.align(voxels, batch.subject_index)  # (B, h)
        loss = self.backbone.compute_loss(aligned, tokens, objective, phase, mixing=mixing, negatives=negatives)
        if self.training and "shared" in batch.targets:
            shared = batch.targets["shared"].float()  # (B, h); an alignment is linear, so that mixtures have mixtures
            shared = shared if mixing is None else torch.cat(mix_voxels(shared.split(mixing.sizes), mixing))
            loss += self.alignment.compute_loss(aligned, shared)
        if self.prior is not None:
            loss += self.prior.compute_loss(loss.outputs["tokens"], tokens, scale=objective.prior_scale)
        elif objective.prior_scale:
            loss += self.backbone.compute_token_loss(loss.outputs["tokens"], tokens, scale=objective.prior_scale)
        if self.low_level is not None and "latents" in batch.targets:
            maps = self.low_level.draw_views(batch.targets["maps"]) if "maps" in batch.targets else (None, None)
            hidden = self.low_level.hidden_of(batch, loss.outputs["hidden"])  # (B, h)
            loss += self.low_level.compute_loss(
                hidden, batch.targets["latents"], *maps, scale=objective.low_level_scale, negatives=negatives
            )
        return loss

    @torch.no_grad()
    def sample_tokens(self, tokens: Tensor, seeds: Sequence[int] | None = None, *, samples: int = 1) -> Tensor:
        """Return renormalised samples of the prior `(B, S, D)`; without a prior the tokens themselves."""
        if self.prior is None:
            return tokens
        noise = None if seeds is None else normal_draws(seeds, tokens)
        return self.prior.renormalised(self.prior.sample(tokens, noise=noise, samples=samples))


class MindEye1(MindEye):
    """MindEye1 (arXiv 2305.18274): a residual MLP, a prior whose samples are renormalised, a separate low-level model.

    Its functional alignment is the first linear map of the published backbone.
    """

    published_averaging = "voxels"


class MindEye2(MindEye):
    """MindEye2 (arXiv 2403.11207): mixer blocks, and a low-level branch on their hidden vector."""
