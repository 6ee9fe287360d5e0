"""Prior means of voxels by their positions: the mean weights of the known voxels that are nearest in the mask.

Masks of different brains are brought together by centre and size along each axis, not by registration.

Legend: V voxels of the new subject, K known voxels, d features.
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
    from scipy.spatial import cKDTree

    tree = cKDTree(np.concatenate([_standardised(places) for places, _ in known]))
    weights = torch.cat([each for _, each in known], 1).double()  # (d, K)
    ranks = range(1, min(count, weights.shape[1]) + 1)
    _, nearest = tree.query(_standardised(positions), k=list(ranks))  # (V, neighbours)
    total = torch.zeros(len(weights), len(positions), dtype=torch.float64)
    for of_rank in torch.from_numpy(nearest).T:
        total += weights[:, of_rank]
    return total / len(ranks)


def _standardised(positions: np.ndarray) -> np.ndarray:
    spread = positions.std(0)
    return (positions - positions.mean(0)) / np.where(spread > 0, spread, 1)
