"""Identification among other images, and correlation distance, between features (MindEye2, spec section 10).

Two directions are in use. "published", what the code of the field computes: a reconstruction is fixed, and its own
image competes with other true images. "paper", what MindEye2's appendix says: an image is fixed, and its own
reconstruction competes with other reconstructions.

Everything goes over the features by blocks: no more than a block of them is ever held in float64.

Legend: N pairs of reconstruction and image, F features, n candidates of which one is right.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.checks import check_embeddings

Direction = Literal["published", "paper"]

#: Similarities that are no further apart are equal: sums over the features round by less, and what a matrix product
#: rounds depends on the place of a row.
TIE = 1e-12


def two_way_identification(
    *, query: Tensor, gallery: Tensor, direction: Direction = "published", names: Sequence[str] | None = None
) -> Tensor:
    """How often a reconstruction is more like its own image than like another one.

    Formula: mean over i and j != i of [r(q_i, g_i) > r(q_i, g_j)], r the Pearson correlation of features, a tie half;
        in the direction "paper" of [r(q_i, g_i) > r(q_j, g_i)].
    Range: 0 to 1
    Direction: higher is better.
    Chance: 1/2
    Weights: none for this function; those of the network that made the features.
    Not shown: whether the objects are right. It saturates: most distractors are photographs of quite another kind, so
        that the right kind of scene wins nearly all comparisons. Compare n-way identification with n = N.
    Source: MindEye2, spec section 10, for the code's direction; MindEye2's appendix A.9 for the paper's.

    Args:
        query: `(N, ...)` features of reconstructions, floating point.
        gallery: `(N, ...)` features of the images, in the same order.
        direction: "published" or "paper", see the head of this module.
        names: of the N images, for messages.

    Returns:
        A scalar, float64.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    return two_way_of_each(query=query, gallery=gallery, direction=direction, names=names).mean()


def two_way_of_each(
    *, query: Tensor, gallery: Tensor, direction: Direction = "published", names: Sequence[str] | None = None
) -> Tensor:
    """As `two_way_identification`, of each fixed item: `(N,)` float64.

    These values share one gallery and depend on each other; `two_way_influence` has those for an interval.
    """
    return n_way_of_each(query=query, gallery=gallery, n=2, direction=direction, names=names)


def two_way_influence(
    *, query: Tensor, gallery: Tensor, direction: Direction = "published", names: Sequence[str] | None = None
) -> Tensor:
    """What each image adds to two-way identification, `(N,)` float64: the values for intervals and paired tests.

    An image takes part twice, in its own N - 1 comparisons and as a distractor in one comparison of every other
    image. Its value is the share won in the former, plus the share that the others win against it, minus the score.
    The mean of these is the score, and the spread of their mean that of the score over new images: the first-order
    projection of a U-statistic of two images (Hoeffding 1948). The own shares alone leave the second part out.

    Args:
        query: as in `two_way_identification`, as all that follow.
        gallery: see there.
        direction: see there.
        names: see there.
    """
    return influence_of_wins(two_way_wins(_directed(query, gallery, direction, names)))


def influence_of_wins(wins: Tensor) -> Tensor:
    """`two_way_influence` from the comparisons, `(N, N)` -> `(N,)` float64."""
    others = len(wins) - 1
    own, against = wins.sum(1) / others, wins.sum(0) / others
    return own + against - own.mean()


def two_way_wins(correlations: Tensor) -> Tensor:
    """Whether the fixed item i prefers its own to j, `(N, N)` float64: 1, 0, a half for ties, 0 on the diagonal.

    Args:
        correlations: `(N, N)` of features, rows the fixed items.
    """
    own = correlations.diagonal()[:, None]
    wins = ((correlations < own - TIE).double() + (correlations <= own + TIE).double()) / 2
    return wins.fill_diagonal_(0)


def n_way_identification(
    *,
    query: Tensor,
    gallery: Tensor,
    n: int,
    top_k: int = 1,
    direction: Direction = "published",
    names: Sequence[str] | None = None,
) -> Tensor:
    """How often the own image is among the `top_k` most alike of n: itself and n - 1 others drawn at random.

    The mean over all possible draws is computed exactly; nothing is drawn.

    Formula: mean over i of P[H_i < top_k], where H_i counts the more similar ones among n - 1 of the N - 1 others drawn
        without replacement: hypergeometric in b_i, the number of all that are more similar. Ties are broken by lot.
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / n
    Weights: none for this function; those of the network that made the features.
    Not shown: how near the misses are, and whether the objects are right. Numbers of unlike n cannot be compared.
    Source: Mind Reader, spec section 8; n = N is the answer to the saturation of two-way identification.

    Args:
        query: `(N, ...)` features of reconstructions, floating point.
        gallery: `(N, ...)` features of the images, in the same order.
        n: candidates, 2 to N; n = N is identification among all images.
        top_k: how many of the most similar count as found, 1 to n.
        direction: "published" or "paper", see the head of this module.
        names: of the N images, for messages.

    Returns:
        A scalar, float64.

    Raises:
        UserError: as `checks.check_embeddings`, and for an n or top_k that cannot be had.
    """
    return n_way_of_each(query=query, gallery=gallery, n=n, top_k=top_k, direction=direction, names=names).mean()


def n_way_of_each(
    *,
    query: Tensor,
    gallery: Tensor,
    n: int,
    top_k: int = 1,
    direction: Direction = "published",
    names: Sequence[str] | None = None,
) -> Tensor:
    """As `n_way_identification`, of each fixed item: `(N,)` float64."""
    correlations = _directed(query, gallery, direction, names)
    return identified(correlations, n=n, top_k=top_k)


def identified(similarity: Tensor, *, n: int, top_k: int = 1) -> Tensor:
    """Probability that the own item is found among n, from similarities `(N, N)` -> `(N,)` float64.

    Args:
        similarity: of each fixed item (row) with each candidate, its own on the diagonal.
        n: candidates, 2 to N.
        top_k: as in `n_way_identification`.

    Raises:
        UserError: for an n or top_k that cannot be had.
    """
    num = len(similarity)
    if not 2 <= n <= num:
        raise UserError("n-way identification cannot draw so many candidates", got=f"n={n}", expected=f"2 to {num}")
    if not 1 <= top_k <= n:
        raise UserError("n-way identification cannot count so many", got=f"top_k={top_k}", expected=f"1 to {n}")
    better, tied = better_and_tied(similarity)
    # With t ties the own item stands behind b, b + 1, ..., b + t others, each as likely as the next.
    found = torch.from_numpy(_found_behind(num, n, top_k)).to(similarity.device)  # (N,)
    summed = torch.cat([found.new_zeros(1), found.cumsum(0)])  # (N + 1,)
    return (summed[better + tied] - summed[better]) / tied


def better_and_tied(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """How many candidates beat the own one, and how many equal it, itself included: `(N,)` int64 each."""
    own = similarity.diagonal()[:, None]  # (N, 1)
    better = (similarity > own + TIE).sum(1)
    return better, ((similarity >= own - TIE).sum(1) - better).clamp_min(1)


def _found_behind(num: int, n: int, top_k: int) -> np.ndarray:
    """Probability of being among the best `top_k` of n, for an item behind 0, 1, ..., N - 1 others: `(N,)` float64."""
    from scipy.stats import hypergeom

    return hypergeom.cdf(top_k - 1, num - 1, np.arange(num), n - 1)


def _directed(query: Tensor, gallery: Tensor, direction: Direction, names: Sequence[str] | None) -> Tensor:
    """Correlations `(N, N)` with the fixed items as rows."""
    check_embeddings(gallery, what="features of the images", names=names)
    check_embeddings(query, what="features of the reconstructions", names=names, like=gallery)
    if len(query) < 2:
        raise UserError("one image has no other to be told from", got=len(query), expected="2 or more")
    correlations = correlation_matrix(query, gallery)
    return {"published": correlations, "paper": correlations.T}[direction]


def correlation_matrix(first: Tensor, second: Tensor, *, block_size: int = 16_384) -> Tensor:
    """Pearson correlations of every row with every row, `(N, ...)` and `(M, ...)` -> `(N, M)` float64.

    A row that is constant is unrelated to all. NaN in a row makes its correlations NaN.

    Args:
        first: floating point of any precision; memory-mapped is fine.
        second: of the same shape behind the first axis.
        block_size: features taken at once.
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
    scales = [
        _inverse_norm(spread, mean, first.shape[1]) for spread, mean in zip(spreads, means, strict=True)
    ]  # (N,), (M,)
    return products * scales[0][:, None] * scales[1][None, :]


def correlation_distance(first: Tensor, second: Tensor, *, names: Sequence[str] | None = None) -> Tensor:
    """Mean distance of a reconstruction's features from its image's.

    Formula: mean over i of 1 - r(a_i, b_i), r the Pearson correlation over features
    Range: 0 to 2
    Direction: lower is better.
    Chance: no one number; the row of another test image stands for it. Features of unrelated photographs correlate.
    Weights: none for this function; those of the network that made the features.
    Not shown: whether the image could be told from others: it is compared with its own only.
    Source: MindEye2, spec section 10 (EffNet-B and SwAV).

    Args:
        first: `(N, ...)` features, floating point.
        second: `(N, ...)` features in the same order.
        names: of the N images, for messages.

    Returns:
        A scalar, float64.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    return correlation_distance_of_each(first, second, names=names).mean()


def correlation_distance_of_each(first: Tensor, second: Tensor, *, names: Sequence[str] | None = None) -> Tensor:
    """As `correlation_distance`, of each pair: `(N,)` float64."""
    check_embeddings(second, what="features of the images", names=names)
    check_embeddings(first, what="features of the reconstructions", names=names, like=second)
    return 1 - correlation_of_each(first, second)


def correlation_of_each(first: Tensor, second: Tensor, *, rows_at_once: int = 16) -> Tensor:
    """Pearson correlation of paired rows, `(N, ...)` and `(N, ...)` -> `(N,)` float64; a constant row has 0."""
    correlations = []
    for some, others in zip(first.split(rows_at_once), second.split(rows_at_once), strict=True):
        sides = [side.flatten(1).double() for side in (some, others)]
        means = [side.mean(1, keepdim=True) for side in sides]
        centred = [side - mean for side, mean in zip(sides, means, strict=True)]
        scales = [
            _inverse_norm(side.square().sum(1), mean, side.shape[1]) for side, mean in zip(centred, means, strict=True)
        ]
        correlations.append((centred[0] * centred[1]).sum(1) * scales[0] * scales[1])
    return torch.cat(correlations)


def _row_means(features: Tensor, block_size: int) -> Tensor:
    """`(N, F)` -> `(N, 1)` float64."""
    total = torch.zeros(len(features), 1, dtype=torch.float64, device=features.device)
    for start in range(0, features.shape[1], block_size):
        total += features[:, start : start + block_size].double().sum(1, keepdim=True)
    return total / features.shape[1]


def _inverse_norm(squares: Tensor, mean: Tensor, num_features: int) -> Tensor:
    """One over the root of sums of squared deviations `(N,)`, 0 where they are no more than the mean's rounding."""
    rounding = num_features * (1e-13 * mean.squeeze(1)).square()
    return torch.where(squares <= rounding.clamp_min(1e-24), 0.0, squares.rsqrt())
