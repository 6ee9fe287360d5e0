"""Hierarchical Gaussian model of voxels: how the weights of voxels vary over the voxels of known subjects.

A voxel's mean response to image i is w f_i plus noise, where f_i are the image's features. Over voxels, w is Gaussian.
Its mean and covariance, and each voxel's noise, are found by expectation maximisation (Dempster, Laird and Rubin 1977).

Legend: N images of a subject, V voxels, d features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_MIN_VARIANCE = 1e-9


@dataclass(frozen=True)
class VoxelPrior:
    """Distribution of the weights of a voxel that was never measured.

    Attributes:
        mean: `(d,)` float64.
        covariance: `(d, d)` float64; features have variance 1, so its trace is the variance of the predictable signal.
    """

    mean: Tensor
    covariance: Tensor

    @property
    def shape(self) -> Tensor:
        """The covariance `(d, d)` in units of the signal's variance."""
        return self.covariance / self.covariance.trace()

    @classmethod
    def fit(cls, subjects: "Sequence[Moments]", iterations: int = 15) -> Self:
        """Return the prior with the highest likelihood; `subjects` have voxels of their own and images of their own."""
        width = len(subjects[0].features)
        mean = torch.zeros(width, dtype=torch.float64)
        covariance = torch.eye(width, dtype=torch.float64) * (0.1 / width)
        noise = [0.8 * one.variance for one in subjects]
        for _ in range(iterations):
            root = torch.linalg.cholesky(covariance + _MIN_VARIANCE * torch.eye(width, dtype=torch.float64))
            found = [one.weights(mean, root, each) for one, each in zip(subjects, noise, strict=True)]
            count = sum(posterior.mean.shape[1] for posterior in found)
            mean = torch.stack([posterior.mean.sum(1) for posterior in found]).sum(0) / count
            covariance = torch.stack([posterior.second_moment(mean) for posterior in found]).sum(0) / count
            noise = [one.noise(posterior) for one, posterior in zip(subjects, found, strict=True)]
        return cls(mean, covariance)

    def tensors(self) -> dict[str, Tensor]:
        """Return the content, for a file."""
        return {"mean": self.mean, "covariance": self.covariance}


@dataclass(frozen=True)
class Moments:
    """All that expectation maximisation reads of a subject.

    Attributes:
        features: `(d, d)` sum over images of outer products of their features.
        products: `(d, V)` sum of features times centred responses.
        squares: `(V,)` sum of squared centred responses.
        count: N.
    """

    features: Tensor
    products: Tensor
    squares: Tensor
    count: int

    @classmethod
    def of(cls, features: Tensor, responses: Tensor) -> Self:
        """Return the moments of features `(N, d)` and mean responses `(N, V)`."""
        centred = responses.double() - responses.double().mean(0)
        features = features.double()
        return cls(features.T @ features, features.T @ centred, centred.square().sum(0), len(features))

    @property
    def variance(self) -> Tensor:
        """Variance `(V,)` of the responses over images."""
        return self.squares / self.count

    def weights(self, mean: Tensor, root: Tensor, noise: Tensor) -> "Posterior":
        """Return the posterior of the voxels' weights, prior covariance `root root^T`, noise variances `(V,)`."""
        values, vectors = torch.linalg.eigh(root.T @ self.features @ root)
        values, basis = values.clamp_min(0), root @ vectors
        deviation = basis.T @ (self.products - (self.features @ mean)[:, None])
        variances = noise / (values[:, None] + noise)  # (d, V)
        return Posterior(mean[:, None] + basis @ (deviation / noise * variances), basis, variances, values)

    def noise(self, posterior: "Posterior") -> Tensor:
        """Return the expected noise variance `(V,)` under a posterior of the weights."""
        mean = posterior.mean
        fitted = (mean * (self.features @ mean)).sum(0) - 2 * (mean * self.products).sum(0)
        uncertain = (posterior.variances * posterior.values[:, None]).sum(0)
        return ((self.squares + fitted + uncertain) / self.count).clamp_min(_MIN_VARIANCE)


@dataclass(frozen=True)
class Posterior:
    """Gaussian weights of voxels: means `(d, V)` and covariances `basis diag(variances) basis^T`.

    `variances` are `(d, V)`; `values` `(d,)` are the eigenvalues of the features' moments in the basis.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    values: Tensor

    def second_moment(self, centre: Tensor) -> Tensor:
        """Return the sum over voxels of the expected outer product of w - centre, `(d, d)`."""
        deviation = self.mean - centre[:, None]
        return deviation @ deviation.T + (self.basis * self.variances.sum(1)) @ self.basis.T
