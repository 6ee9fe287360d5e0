"""The score by which a baseline's images are tuned: on training images that the regression did not see.

Legend: k validation images, H and W image size, E width of CLIP's embedding.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.pixels import pixcorr_per_image
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.steps.inputs.frozen_models import FrozenModel

#: Validation images that are drawn, each in every rescaling.
MAX_DRAWN = 64
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Judge:
    """Mean of PixCorr and CLIP two-way identification, the latter as 2 p - 1, so that chance is about 0 in both.

    Attributes:
        seen: `(k, 3, H, W)` the images.
        embedder: the experiment's own, whose pooled embedding is compared.
    """

    seen: Tensor
    embedder: FrozenModel

    @classmethod
    def of_images(cls, stimuli: Stimuli, ids: Tensor, embedder: FrozenModel) -> "Judge":
        """Return the judge of stimulus ids `(k,)`."""
        return cls(torch.from_numpy(stimuli.read(ids.numpy())).float(), embedder)

    def score(self, images: Tensor) -> float:
        """Return the score of images `(k, 3, h, w)` in [0, 1]; the seen ones are resized to theirs."""
        images = images.float().cpu()
        pixcorr = pixcorr_per_image(images, self.seen, size=images.shape[-1], antialias=True)
        two_way = n_way_per_image(correlation_matrix(self._embed(images), self._embedded), n=2)
        return float(np.mean([pixcorr.mean(), 2 * two_way.mean() - 1]))

    @cached_property
    def _network(self) -> CLIPImageEmbedder:
        return self.embedder.load().to(self.embedder.device)

    @cached_property
    def _embedded(self) -> Tensor:
        return self._embed(self.seen)

    @torch.inference_mode()
    def _embed(self, images: Tensor) -> Tensor:
        """Return pooled embeddings `(k, E)`."""
        parts = images.split(_BATCH_SIZE)
        return torch.cat([self._network.pooled(part.to(self.embedder.device)).float().cpu() for part in parts])
