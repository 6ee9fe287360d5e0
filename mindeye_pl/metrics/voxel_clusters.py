"""Functional clusters of voxels over subjects, by what drives the voxels (Brain-IT, arXiv:2510.25976).

A voxel's tuning is its weights of a ridge encoder on axes that all subjects share, scaled so that the cosine of two
voxels' tuning is the correlation of their predicted responses, and its length their standard deviation. Brain-IT takes
the embeddings of an encoder that is trained on all subjects together.

Legend: n images, F features, K axes, V voxels, C clusters, k neighbours.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.encoding import RidgeEncoder, principal_axes, project

#: Covariance of a cluster: `full` as published, or without correlations between axes.
Covariance = Literal["full", "diag", "spherical"]


@dataclass(frozen=True)
class FeatureAxes:
    """Principal axes of image features."""

    mean: np.ndarray  # (F,) float32
    axes: np.ndarray  # (K, F) float32
    deviations: np.ndarray  # (K,) float32, of the features along the axes

    @classmethod
    def fit(cls, features: np.ndarray, num_axes: int) -> Self:
        """Return the axes of features `(n, F)`, at most `num_axes`; errors as of `RidgeEncoder.fit`."""
        mean, axes = principal_axes(features, min(num_axes, len(features) - 1, features.shape[1]))
        return cls(mean, axes, project(features, mean, axes).std(0))

    def project(self, features: np.ndarray) -> np.ndarray:
        """Return the coordinates `(n, K)` of features `(n, F)`."""
        return project(features, self.mean, self.axes)


def voxel_tuning(projected: np.ndarray, betas: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return the tuning of each voxel, `(V, K)` float32.

    Args:
        projected: `(n, K)` features of distinct images along the common axes.
        betas: `(n, V)` of the same images, repetitions averaged.
        deviations: `(K,)` of the features over the images of all subjects.
    """
    encoder = RidgeEncoder.fit(projected, betas, num_components=projected.shape[1])
    weights = encoder.components.T @ encoder.weights  # (K, V)
    return (weights.T * deviations).astype(np.float32)


def cluster_voxels(
    tuning: np.ndarray, num_clusters: int, *, covariance: Covariance = "full", seed: int = 0
) -> np.ndarray:
    """Return the cluster of each voxel, `(V,)` int64, by a Gaussian mixture over all subjects' voxels `(V, K)`.

    Tuning is normalised to length 1 first, so that a voxel's noise does not matter.

    Raises:
        UserError: for fewer voxels than clusters.
    """
    from sklearn.mixture import GaussianMixture
    from sklearn.preprocessing import normalize

    if len(tuning) < num_clusters:
        got, fix = f"{len(tuning)} voxels", f"voxel_clusters.count={max(1, len(tuning) // 8)}"
        raise UserError("too few voxels for the clusters", got=got, expected=f"at least {num_clusters}", fix=fix)
    mixture = GaussianMixture(num_clusters, covariance_type=covariance, random_state=seed, reg_covar=1e-4)
    return mixture.fit_predict(normalize(tuning.astype(np.float64))).astype(np.int64)


def nearest_voxels(tuning: np.ndarray, others: np.ndarray, count: int = 1) -> np.ndarray:
    """Return the nearest of other subjects' voxels, `(V, k)` int64, nearest first: `(V, K)`, `(V', K)`.

    Voxels whose predicted responses are correlated most are nearest.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    found = NearestNeighbors(n_neighbors=min(count, len(others)), algorithm="brute").fit(normalize(others))
    return found.kneighbors(normalize(tuning), return_distance=False).astype(np.int64)
