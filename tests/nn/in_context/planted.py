"""Voxels whose weights, noise and images are drawn from the model that the decoder assumes."""

import numpy as np
import torch

from mindeye_pl.nn.in_context.episodes import Support
from mindeye_pl.nn.in_context.voxel_prior import VoxelPrior

FEATURES, VOXELS = 6, 300


def planted_prior(signal: float = 0.2) -> VoxelPrior:
    """A prior of unequal directions, with a mean."""
    rng = np.random.default_rng(7)
    rotation, _ = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))
    variances = np.geomspace(1, 0.05, FEATURES)
    covariance = (rotation * variances) @ rotation.T * (signal / variances.sum())
    return VoxelPrior(torch.from_numpy(0.05 * rng.standard_normal(FEATURES)), torch.from_numpy(covariance))


def planted_subject(
    seed: int, images: int, *, signal: float = 0.2, voxels: int = VOXELS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights `(d, V)`, features `(N, d)` and responses `(N, V)` of unit variance."""
    rng, prior = np.random.default_rng(seed), planted_prior(signal)
    weights = rng.multivariate_normal(prior.mean.numpy(), prior.covariance.numpy(), voxels).T
    features = rng.standard_normal((images, FEATURES))
    responses = features @ weights + np.sqrt(1 - signal) * rng.standard_normal((images, voxels))
    return torch.from_numpy(weights), torch.from_numpy(features), torch.from_numpy(responses)


def planted_support(seed: int, images: int, queries: int) -> tuple[Support, torch.Tensor, torch.Tensor]:
    """Return a support set, and features and responses of other images."""
    _, features, responses = planted_subject(seed, images + queries)
    given = Support(features[:images], responses[:images], torch.ones(images))
    return given, features[images:], responses[images:]
