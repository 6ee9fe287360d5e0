"""Means of the weights of known voxels that are nearest in the mask.

Masks of different brains are brought together by centre and size along each axis, not by registration.

Legend: V voxels of the new subject, K known voxels, d features, k neighbours.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def near_means(known: Sequence[tuple[np.ndarray, Tensor]], positions: np.ndarray, count: int) -> Tensor:
    """Return the mean weights of the `count` nearest known voxels, `(d, V)` float64.

    Args:
        known: of each subject positions `(K, 3)` in mm and weights `(d, K)`.
        positions: `(V, 3)` in mm.
        count: neighbours; all known voxels where there are fewer.
    """
    nearest = nearest_positions([places for places, _ in known], positions, count)
    return mean_weights(torch.cat([each for _, each in known], 1).double(), nearest)


def nearest_positions(known: Sequence[np.ndarray], positions: np.ndarray, count: int) -> np.ndarray:
    """Return the known voxels nearest to positions `(V, 3)`, `(V, k)` int64, nearest first.

    They are numbered through the subjects, of each of which `known` has the positions `(K, 3)`.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(np.concatenate([_standardised(places) for places in known]))
    _, nearest = tree.query(_standardised(positions), k=list(range(1, min(count, tree.n) + 1)))
    return np.asarray(nearest, np.int64)


def mean_weights(weights: Tensor, nearest: np.ndarray) -> Tensor:
    """Return the means `(d, V)` of the weights `(d, K)` of each voxel's neighbours `(V, k)`, one rank at a time."""
    total = torch.zeros(len(weights), len(nearest), dtype=weights.dtype, device=weights.device)
    for of_rank in torch.from_numpy(nearest.T):
        total += weights[:, of_rank.to(weights.device)]
    return total / nearest.shape[1]


def _standardised(positions: np.ndarray) -> np.ndarray:
    spread = positions.std(0)
    return (positions - positions.mean(0)) / np.where(spread > 0, spread, 1)
