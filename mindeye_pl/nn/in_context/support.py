"""Weights of a new subject's voxels, estimated from a support set: Bayesian regression in closed form.

Responses are z-scores, so a voxel's signal and noise have the variances h and 1 - h. The fraction h of each voxel is
unknown; it is averaged over a grid by the evidence of the support set.

Legend: n support images, V voxels, d features, K fractions of the grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mindeye_pl.nn.in_context.voxel_prior import VoxelPrior

#: Signal's fraction of the variance of a single response; all are equally likely before the support set is seen.
SIGNAL_FRACTIONS = (0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45)


@dataclass(frozen=True)
class EstimatedVoxels:
    """Voxels as a support set estimates them; all float64.

    Attributes:
        weights: `(d, V)` posterior means.
        baseline: `(V,)` posterior mean of the response to the mean image.
        uncertainty: `(V,)` variance that the weights' uncertainty adds to the prediction for an average image.
        noise: `(V,)` variance of the noise of one response.
        residuals: `(n, V)` of the support set, of one response each, in units in which their variance is `noise`.
    """

    weights: Tensor
    baseline: Tensor
    uncertainty: Tensor
    noise: Tensor
    residuals: Tensor

    def select(self, voxels: Tensor) -> "EstimatedVoxels":
        """Return some of the voxels, by index or mask."""
        parts = (getattr(self, name)[..., voxels] for name in self.__dataclass_fields__)
        return EstimatedVoxels(*parts)


def estimate_voxels(
    prior: VoxelPrior,
    features: Tensor,
    responses: Tensor,
    counts: Tensor,
    *,
    means: Tensor | None = None,
    fractions: tuple[float, ...] = SIGNAL_FRACTIONS,
) -> EstimatedVoxels:
    """Return the voxels of a support set.

    Args:
        prior: of the weights, in whose covariance a voxel differs from its prior mean.
        features: `(n, d)` of the images; n may be 0.
        responses: `(n, V)`, mean of each image's responses.
        counts: `(n,)` responses of each image.
        means: `(d, V)` prior means of the voxels; None takes `prior.mean` for all.
        fractions: grid of h.
    """
    num, voxels = responses.shape
    means = (prior.mean[:, None] if means is None else means).to(features.device, torch.float64).expand(-1, voxels)
    root = counts.to(features.device, torch.float64).sqrt()[:, None]  # makes the noise of all rows equal
    design = torch.cat([torch.ones_like(root), features.double()], 1) * root  # (n, 1 + d)
    shape = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), prior.shape).to(features.device)
    deviation = responses.double() * root - design[:, 1:] @ means  # (n, V)
    values, vectors = torch.linalg.eigh(design @ shape @ design.T)  # (n,), (n, n)
    values = values.clamp_min(0)
    rotated, loadings = vectors.T @ deviation, shape @ design.T @ vectors  # (n, V), (1 + d, n)
    h = torch.tensor(fractions, dtype=torch.float64, device=features.device)[:, None]  # (K, 1)
    variances = h * values + 1 - h  # (K, n)
    evidence = -0.5 * (variances.log().sum(1, keepdim=True) + (1 / variances) @ rotated.square())  # (K, V)
    probability = evidence.softmax(0)
    coefficients = (h / variances).T @ probability * rotated  # (n, V)
    found = loadings @ coefficients  # (1 + d, V)
    explained = (h.square() / variances) @ loadings.square().sum(0)  # (K,), of the prior's trace
    uncertainty = (2 * h[:, 0] - explained).clamp_min(1e-12) @ probability  # both blocks of the shape have trace 1
    noise = (1 - h[:, 0]) @ probability
    residuals = deviation - design @ found
    scale = (noise / residuals.square().mean(0).clamp_min(1e-12)).sqrt() if num else noise
    return EstimatedVoxels(means + found[1:], found[0], uncertainty, noise, residuals * scale)
