"""Training of the voxel transformer on episodes (BrainCoDec, arXiv:2604.08537, learns by episodes too).

Legend: B episodes of a step, m queries, d features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.foundation import Foundation
from mindeye_pl.nn.in_context.episodes import KnownSubject
from mindeye_pl.nn.in_context.support import estimate_voxels
from mindeye_pl.nn.in_context.transformer import VoxelTransformer
from mindeye_pl.nn.in_context.voxel_prior import VoxelPrior
from mindeye_pl.types import ImageBatch, PartLoss


class InContextTraining(Foundation):
    """Voxel transformer on episodes: contrastive in both directions, and the cosine to the image's own features.

    Args:
        network: the transformer.
        subjects: of the training; they are no modules, so that no checkpoint has them.
        prior: of the voxels' weights.
        scale: `(d,)` of the features, in which tokens are compared.
        pseudo_count: as of `infer_features`.
        support: limits of the number of support images; each episode's is drawn log-uniformly.
        queries: m.
        voxels: of an episode.
        temperature: of the contrastive loss.
        settings: those of `Foundation`.
    """

    network: VoxelTransformer

    def __init__(
        self,
        network: VoxelTransformer,
        subjects: Sequence[KnownSubject],
        prior: VoxelPrior,
        scale: Tensor,
        *,
        pseudo_count: float,
        support: tuple[int, int],
        queries: int,
        voxels: int,
        temperature: float,
        **settings: Any,
    ):
        super().__init__(network, **settings)
        self._subjects, self._prior, self._scale = subjects, prior, scale
        self.pseudo_count, self.support, self.queries, self.voxels = pseudo_count, support, queries, voxels
        self.temperature = temperature

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the mean loss of the episodes of the seeds `episode` `(B, 1)` int64."""
        losses = torch.stack([self._loss(int(seed)) for seed in batch["episode"].flatten().tolist()])
        contrastive, distance = losses.mean(0)
        return PartLoss(contrastive + distance, {"contrastive": contrastive.detach(), "distance": distance.detach()})

    def _loss(self, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        subject = self._subjects[int(rng.integers(len(self._subjects)))]
        low, high = np.log(self.support)
        count = int(np.exp(rng.uniform(low, high)).round())
        episode = subject.draw(rng, count, self.queries, self.voxels, str(self.device))
        estimated = estimate_voxels(self._prior, *vars(episode.support).values())
        found = self.network(estimated, episode.responses, pseudo_count=self.pseudo_count)
        return episode_loss(found, episode.features, self._scale.to(found), self.temperature)


def episode_loss(found: Tensor, true: Tensor, scale: Tensor, temperature: float) -> Tensor:
    """Return contrastive loss and cosine distance of features, `(m, d)`, `(m, d)`, `(d,)` -> `(2,)`."""
    predicted, target = F.normalize(found * scale, dim=1), F.normalize(true * scale, dim=1)
    cosines = predicted @ target.T
    own = torch.arange(len(cosines), device=cosines.device)
    directions = torch.stack([F.cross_entropy(each / temperature, own) for each in (cosines, cosines.T)])
    return torch.stack([directions.mean(), 1 - cosines.diagonal().mean()])
