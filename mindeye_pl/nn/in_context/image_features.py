"""Image features: the first principal components of target tokens, in units of their standard deviation.

Legend: n images, T values of an image's tokens, d features.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

#: Values of the tokens that are in memory as float32 at once, of all images.
_COLUMNS_PER_BLOCK = 8192


@dataclass(frozen=True)
class ImageFeatures:
    """Linear map between tokens and features; over the images that it was fitted to, features have mean 0, variance 1.

    Attributes:
        mean: `(T,)` float32 of the tokens.
        basis: `(d, T)` float32, orthonormal rows.
        scale: `(d,)` float32, standard deviation along each row, largest first.
        total: standard deviation of the tokens over all directions, the root of the summed variances.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor
    total: float

    @classmethod
    def fit(cls, tokens: np.ndarray, count: int) -> Self:
        """Return the first principal components of `(n, T)` float16 or float32; fewer than `count` for few images."""
        images, width = tokens.shape
        mean = tokens.mean(0, dtype=np.float64).astype(np.float32)
        gram = np.zeros((images, images))
        for block in _blocks(width):
            some = tokens[:, block].astype(np.float32) - mean[block]
            gram += some @ some.T
        values, vectors = np.linalg.eigh(gram / images)
        kept = np.flatnonzero(values > 1e-6 * values[-1])[::-1][: min(count, images - 1)]
        scale = np.sqrt(values[kept])  # (d,)
        weights = (vectors[:, kept] / (np.sqrt(images) * scale)).astype(np.float32)  # (n, d)
        basis = np.empty((len(kept), width), np.float32)
        for block in _blocks(width):
            basis[:, block] = weights.T @ (tokens[:, block].astype(np.float32) - mean[block])
        total = float(np.sqrt(values.clip(0).sum()))
        return cls(torch.from_numpy(mean), torch.from_numpy(basis), torch.from_numpy(scale).float(), total)

    def encode(self, tokens: np.ndarray) -> Tensor:
        """Return features `(n, d)` float32 of tokens `(n, ...)` with T values each."""
        flat = torch.from_numpy(np.asarray(tokens).reshape(len(tokens), len(self.mean)).astype(np.float32))
        return (flat - self.mean) @ self.basis.T / self.scale

    def decode(self, features: Tensor) -> Tensor:
        """Return tokens `(n, T)` float32 of features `(n, d)`."""
        return self.mean + (features.float() * self.scale) @ self.basis

    def to_norm(self, features: Tensor) -> Tensor:
        """Return features `(n, d)` whose tokens deviate from the mean as much as an image's do.

        A posterior mean is nearer to the mean of all images the less the responses say.
        """
        norms = torch.linalg.vector_norm(features * self.scale.to(features), dim=1, keepdim=True)
        return features * (self.total / norms.clamp_min(1e-12))

    def tensors(self) -> dict[str, Tensor]:
        """Return the content, for a file."""
        return {"mean": self.mean, "basis": self.basis, "scale": self.scale, "total": torch.tensor([self.total])}

    @classmethod
    def of_tensors(cls, stored: dict[str, Tensor]) -> Self:
        """Return the features of `tensors`."""
        return cls(stored["mean"], stored["basis"], stored["scale"], float(stored["total"]))


def _blocks(width: int) -> list[slice]:
    return [slice(start, start + _COLUMNS_PER_BLOCK) for start in range(0, width, _COLUMNS_PER_BLOCK)]
