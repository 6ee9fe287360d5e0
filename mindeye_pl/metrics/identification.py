"""Identification among other images, and correlation distance, between features (MindEye2, spec section 10).

Two directions are in use. "published", computed by the field's code: a reconstruction is fixed, and its own image
competes with other true images. "paper", described in MindEye2's appendix: an image is fixed, and its own
reconstruction competes with other reconstructions. Matrices have the fixed items as rows; the transpose is the other
direction.

Legend: N pairs of reconstruction and image, F features, M candidates, n of them in a question, one of which is right.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError

#: Similarities that differ by at most this are ties: sums over features round by less, and the rounding of a matrix
#: product depends on a row's index.
TIE = 1e-12


#: What a tie counts: half of a win, as if it were broken by lot, or a loss, as in the published code.
Ties = Literal["half", "lost"]


def n_way_per_image(correlations: Tensor, *, n: int, top_k: int = 1, ties: Ties = "half") -> Tensor:
    """Probability that an item's own candidate is among the `top_k` most similar of n: itself and n - 1 random others.

    The mean over all possible draws of the others is computed exactly, without sampling.

    Formula: mean over i of P[H_i < top_k], where H_i counts the more similar ones among n - 1 of the M - 1 others drawn
        without replacement: hypergeometric in b_i, the number of all that are more similar. Ties are broken randomly.
        Two-way identification (n = 2) is the mean over i and j != i of [r(q_i, g_i) > r(q_i, g_j)], r the Pearson
        correlation of features, a tie half, or lost by `protocol.ties`; in the direction "paper" of
        [r(q_i, g_i) > r(q_j, g_i)].
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / n
    Weights: none for this function; those of the network that computed the features.
    Not shown: how near the misses are, and whether the objects are right. Two-way identification saturates: most
        distractors are photographs of a different kind, so the right kind of scene wins nearly all comparisons; compare
        n = M. Scores with different n are not comparable, and with other candidates only if these are as similar.
    Source: MindEye2, spec section 10, for n = 2 in the code's direction; MindEye2's appendix A.9 for the paper's; Mind
        Reader, spec section 8, for other n.

    The values share one gallery and depend on each other; use `two_way_influence` for an interval.

    Shape: `(N, M)`, each fixed item (row) with each of M >= N candidates, its own on the diagonal -> `(N,)` float64.

    Raises:
        UserError: for an n that is not 2 to M, or a top_k that is not 1 to n.
    """
    from scipy.stats import hypergeom

    num = correlations.shape[1]
    if not 2 <= n <= num:
        raise UserError("n of n-way identification is out of range", got=f"n={n}", expected=f"2 to {num} images")
    if not 1 <= top_k <= n:
        raise UserError("top_k of n-way identification is out of range", got=f"top_k={top_k}", expected=f"1 to {n}")
    better, tied = better_and_tied(correlations)
    if ties == "lost":
        better, tied = better + tied - 1, torch.ones_like(tied)
    # Probability of rank `top_k` or better among n, by the number of better others. With t ties the own item is behind
    # b, b + 1, ..., b + t others with equal probability.
    ranked = hypergeom.cdf(top_k - 1, num - 1, np.arange(num), n - 1)
    found = torch.from_numpy(ranked).to(correlations.device)  # (N,)
    summed = torch.cat([found.new_zeros(1), found.cumsum(0)])  # (N + 1,)
    return (summed[better + tied] - summed[better]) / tied


def two_way_influence(correlations: Tensor, *, ties: Ties = "half") -> Tensor:
    """Contribution of each image to two-way identification, `(N, N)` -> `(N,)` float64, for intervals and paired tests.

    An image has two roles: it is fixed in its own N - 1 comparisons, and it is a distractor in one comparison of every
    other image. Its value is the fraction it wins in the former, plus the fraction the others win against it, minus the
    score. The mean of the values is the score, and the standard error of their mean that of the score over new images:
    the first-order projection of a U-statistic of two images (Hoeffding 1948).
    """
    own = correlations.diagonal()[:, None]
    won_clearly = (correlations < own - TIE).double()
    wins = won_clearly if ties == "lost" else (won_clearly + (correlations <= own + TIE).double()) / 2
    wins = wins.fill_diagonal_(0)
    others = len(wins) - 1
    won, against = wins.sum(1) / others, wins.sum(0) / others
    return won + against - won.mean()


def better_and_tied(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Count the candidates `(N, M)` that beat the own one, and those that tie with it or are it, `(N,)` int64 each."""
    own = similarity.diagonal()[:, None]  # (N, 1)
    better = (similarity > own + TIE).sum(1)
    return better, ((similarity >= own - TIE).sum(1) - better).clamp_min(1)


def correlation_matrix(first: Tensor, second: Tensor, *, block_size: int = 16_384) -> Tensor:
    """Return Pearson correlations of every row with every row, `(N, ...)` and `(M, ...)` -> `(N, M)` float64.

    A constant row has correlation 0 with all others. A row with NaN has NaN correlations. Both may be of any precision,
    and memory-mapped: `block_size` features are read at once.
    """
    first, second = first.flatten(1), second.flatten(1)
    assert first.shape[1] == second.shape[1], f"{first.shape[1]} and {second.shape[1]} features"
    sides = first, second
    means = [_row_means(side, block_size) for side in sides]  # (N, 1), (M, 1)
    products = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    spreads = [products.new_zeros(len(side)) for side in sides]
    for start in range(0, first.shape[1], block_size):
        centred = [side[:, start : start + block_size].double() - mean for side, mean in zip(sides, means, strict=True)]
        products += centred[0] @ centred[1].T
        for spread, block in zip(spreads, centred, strict=True):
            spread += torch.linalg.vector_norm(block, dim=1).square()
    rows, columns = (_inverse_norm(*each, first.shape[1]) for each in zip(spreads, means, strict=True))  # (N,), (M,)
    return products * rows[:, None] * columns[None, :]


def correlation_distance_per_image(first: Tensor, second: Tensor) -> Tensor:
    """Distance of a reconstruction's features from its image's.

    Formula: mean over i of 1 - r(a_i, b_i), r the Pearson correlation over features
    Range: 0 to 2
    Direction: lower is better.
    Chance: no single number; see the row of another test image. Features of unrelated photographs correlate.
    Weights: none for this function; those of the network that computed the features.
    Not shown: whether the image can be distinguished from others: it is compared only with its own.
    Source: MindEye2, spec section 10 (EffNet-B and SwAV).

    Shape: `(N, ...)`, `(N, ...)` floating point, in the same order -> `(N,)` float64.
    """
    return 1 - correlation_per_row(first, second)


def correlation_per_row(first: Tensor, second: Tensor, *, batch_size: int = 16) -> Tensor:
    """Return Pearson correlations of paired rows, `(N, ...)`, `(N, ...)` -> `(N,)` float64; 0 for a constant row."""
    correlations = []
    for some, others in zip(first.split(batch_size), second.split(batch_size), strict=True):
        sides = [side.flatten(1).double() for side in (some, others)]
        means = [side.mean(1, keepdim=True) for side in sides]
        centred = [side - mean for side, mean in zip(sides, means, strict=True)]
        squares = [side.square().sum(1) for side in centred]
        one, two = (_inverse_norm(*each, centred[0].shape[1]) for each in zip(squares, means, strict=True))
        correlations.append((centred[0] * centred[1]).sum(1) * one * two)
    return torch.cat(correlations)


def _row_means(features: Tensor, block_size: int) -> Tensor:
    """Return the row means, `(N, F)` -> `(N, 1)` float64."""
    total = torch.zeros(len(features), 1, dtype=torch.float64, device=features.device)
    for start in range(0, features.shape[1], block_size):
        total += features[:, start : start + block_size].double().sum(1, keepdim=True)
    return total / features.shape[1]


def _inverse_norm(squares: Tensor, mean: Tensor, num_features: int) -> Tensor:
    """Return 1 / sqrt(squares), `(N,)`; 0 if the squared deviations are within the rounding of the mean."""
    rounding = num_features * (1e-13 * mean.squeeze(1)).square()
    return torch.where(squares <= rounding.clamp_min(1e-24), 0.0, squares.rsqrt())
