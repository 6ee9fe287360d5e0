"""Two-way identification and correlation distance between features (MindEye2, spec section 10).

Legend: N pairs of reconstruction and picture, F features.
"""

import torch
from torch import Tensor


def correlation_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlations of every row with every row, `(N, F)` and `(M, F)` -> `(N, M)` float64."""
    first, second = (_standardised(features.flatten(1).double()) for features in (first, second))
    return first @ second.T


def _standardised(features: Tensor) -> Tensor:
    centred = features - features.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)


def two_way_identification(*, query: Tensor, gallery: Tensor) -> Tensor:
    """How often a query is more like its own item than like another one; chance is 1/2.

    The published number takes reconstructions as queries and true pictures as gallery.

    Shape:
        query `(N, ...)`, gallery `(N, ...)` -> scalar float64.
    """
    return two_way_of_each(query=query, gallery=gallery).mean()


def two_way_of_each(*, query: Tensor, gallery: Tensor) -> Tensor:
    """As `two_way_identification`, of each query: `(N,)` float64; a tie is half a win, NaN where a feature is."""
    correlations = correlation_matrix(query, gallery)  # (N, N)
    own = correlations.diagonal()[:, None]
    wins = (correlations < own).sum(1).double() + ((correlations == own).sum(1).double() - 1) / 2
    return torch.where(correlations.isnan().any(1), torch.nan, wins / (len(correlations) - 1))


def correlation_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean of 1 minus the Pearson correlation of paired rows; lower is better.

    Shape:
        `(N, ...)`, `(N, ...)` -> scalar float64.
    """
    return (1 - correlation_of_each(first, second)).mean()


def correlation_of_each(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of paired rows, `(N, ...)` and `(N, ...)` -> `(N,)` float64."""
    first, second = (_standardised(features.flatten(1).double()) for features in (first, second))
    return (first * second).sum(1)
