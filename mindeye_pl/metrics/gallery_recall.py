"""Recall of a search in a large gallery.

Legend: n queries, k results per query, N gallery images.
"""

from collections.abc import Sequence

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.intervals import hit_rate_interval
from mindeye_pl.metrics.statistics.score import Score


def gallery_recall_per_image(indices: np.ndarray, truth: np.ndarray, top_k: int = 1) -> np.ndarray:
    """Fraction of queries whose own image is among the first `top_k` results.

    Formula: mean over i of [truth_i is one of indices_i1, ..., indices_i top_k]
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / N
    Weights: none for this function; those of the CLIP model that embedded the gallery.
    Not shown: how similar the other results are. A gallery may contain an image twice, and an approximate index may
        miss the nearest one: the row of the image's own embedding shows how much the index alone loses.
    Source: MindEye1, spec section 9.2 (the search), section 9.1 (the score).

    Args:
        indices: `(n, k)` integers, gallery indices of the results, best first, -1 for missing results.
        truth: `(n,)` gallery indices of the queries' own images.
        top_k: number of results that count.

    Returns:
        `(n,)` float64, 1 for each query that finds its image, else 0.
    """
    assert indices.shape[:1] == truth.shape, f"results {indices.shape} for truth {truth.shape}"
    return (indices[:, :top_k] == truth[:, None]).any(1).astype(float)


def gallery_recall_scores(
    indices: np.ndarray, truth: np.ndarray, *, pool_size: int, top_k: Sequence[int] = (1, 5, 10)
) -> list[Score]:
    """Return recall at several k, with Wilson's intervals over the queries.

    Args:
        indices: as of `gallery_recall_per_image`.
        truth: as of `gallery_recall_per_image`.
        pool_size: N.
        top_k: numbers of results that count; one score each, named for example `gallery_recall_5`.

    Raises:
        UserError: if a k is not positive, or exceeds the number of results.
    """
    if not top_k or min(top_k) < 1 or max(top_k) > indices.shape[1]:
        raise UserError("top_k of gallery recall is out of range", got=list(top_k), expected=f"1 to {indices.shape[1]}")
    scores = []
    for k in top_k:
        hits = gallery_recall_per_image(indices, truth, k)
        chance, interval = min(1.0, k / pool_size), hit_rate_interval(hits)
        scores.append(Score(f"gallery_recall_{k}", float(hits.mean()), chance, pool_size, len(hits), interval))
    return scores
