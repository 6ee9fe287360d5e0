"""Episodes: a subject of the training plays the new one, with some of its voxels, a support set and queries.

Legend: N images of a subject, T trials, V voxels, v voxels of an episode, n support images, m queries, d features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Support:
    """Support set: features `(n, d)`, mean responses `(n, v)`, and the number of responses of each image `(n,)`."""

    features: Tensor
    responses: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Episode:
    """A support set, and queries of other images: features `(m, d)` and responses `(m, v)`."""

    support: Support
    features: Tensor
    responses: Tensor


@dataclass(frozen=True)
class KnownSubject:
    """A subject of the training.

    Attributes:
        features: `(N, d)` float32 of the images.
        responses: `(T, V)` float32 of single trials.
        image: `(T,)` int64, row of each trial's image in `features`.
        means: `(N, V)` float32, mean response to each image.
    """

    features: Tensor
    responses: Tensor
    image: Tensor
    means: Tensor

    @classmethod
    def of(cls, features: Tensor, responses: Tensor, image: Tensor) -> "KnownSubject":
        """Return a subject, the mean responses computed."""
        counts = torch.bincount(image, minlength=len(features))[:, None]
        means = torch.zeros(len(features), responses.shape[1]).index_add_(0, image, responses) / counts
        return cls(features, responses, image, means)

    def draw(
        self, rng: np.random.Generator, support: int, queries: int, voxels: int | None = None, device: str = "cpu"
    ) -> Episode:
        """Draw an episode: single trials of `support` images, mean responses to up to `queries` others."""
        images = rng.permutation(len(self.features))
        shown, asked = torch.from_numpy(images[:support]), torch.from_numpy(images[support : support + queries])
        order = torch.from_numpy(rng.permutation(len(self.image)))
        first = torch.empty(len(self.features), dtype=torch.int64)
        first[self.image[order]] = order  # one trial of each image
        total = self.responses.shape[1]
        chosen = slice(None) if voxels is None else torch.from_numpy(rng.permutation(total)[:voxels])
        given = Support(self.features[shown], self.responses[first[shown]][:, chosen], torch.ones(len(shown)))
        given = Support(*(each.to(device) for each in vars(given).values()))
        return Episode(given, self.features[asked].to(device), self.means[asked][:, chosen].to(device))
