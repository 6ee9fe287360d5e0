"""Image features from responses: the posterior mean of a linear Gaussian model, in closed form.

The prior of an image's features is a standard normal distribution, since they are whitened principal components. Voxels
share noise, so its covariance is estimated from the support set's residuals E: the posterior mean under an inverse
Wishart prior of `pseudo_count` residuals with independent voxels is (pseudo_count D + E^T E) / (pseudo_count + n).

Legend: n support images, m queries, V voxels, d features.
"""

import torch
from torch import Tensor

from mindeye_pl.nn.in_context.support import EstimatedVoxels


def infer_features(voxels: EstimatedVoxels, responses: Tensor, *, pseudo_count: float) -> Tensor:
    """Return the posterior mean of the features, `(m, V)` -> `(m, d)` float64.

    The uncertainty of the weights counts as independent noise of the size that it has for an average image.

    Args:
        voxels: as the support set estimates them.
        responses: of the queries.
        pseudo_count: weight of independent noise against the residuals' covariance, in support images.
    """
    matrix, baseline = readout(voxels, pseudo_count=pseudo_count)
    return (responses.double() - baseline) @ matrix


def readout(voxels: EstimatedVoxels, *, pseudo_count: float) -> tuple[Tensor, Tensor]:
    """Return the matrix `(V, d)` and the baseline `(V,)` of `infer_features`, which is linear in the responses."""
    weights, residuals = voxels.weights, voxels.residuals
    total = pseudo_count + len(residuals)
    independent = voxels.noise * (pseudo_count / total) + voxels.uncertainty  # (V,)
    shared = residuals / total**0.5  # (n, V), of the covariance shared^T shared
    scaled, noise = weights / independent, shared / independent
    inner = torch.eye(len(shared), dtype=torch.float64, device=weights.device) + noise @ shared.T  # (n, n)
    precise = scaled - (scaled @ shared.T) @ torch.linalg.solve(
        inner, noise
    )  # (d, V), weights x precision of the noise
    precision = torch.eye(len(weights), dtype=torch.float64, device=weights.device) + precise @ weights.T
    return torch.linalg.solve(precision, precise).T, voxels.baseline
