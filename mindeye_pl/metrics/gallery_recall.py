"""Whether an image is among those that a search of a large gallery found.

Legend: n queries, k images found for each, N images of the gallery.
"""

from collections.abc import Sequence

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.intervals import hit_rate_interval
from mindeye_pl.metrics.statistics.score import Score


def gallery_recall(places: np.ndarray, truth: np.ndarray, top_k: int = 1) -> float:
    """Share of queries whose own image is among the first `top_k` that were found.

    Formula: mean over i of [truth_i is one of places_i1, ..., places_i top_k]
    Range: 0 to 1
    Direction: higher is better.
    Chance: top_k / N
    Weights: none for this function; those of the CLIP model that embedded the gallery.
    Not shown: how like the others are that were found. A gallery may hold the same image twice, and an index that is
        not exact may miss the nearest one: the row of the image's own vector says how much the index alone loses.
    Source: MindEye1, spec section 9.2 (the search), section 9.1 (the score).

    Args:
        places: `(n, k)` integers, the first found first, -1 where nothing was.
        truth: `(n,)` places of the queries' own images.
        top_k: how many of the first count.

    Returns:
        A share.
    """
    return float(_hits(places, truth, top_k).mean())


def _hits(places: np.ndarray, truth: np.ndarray, top_k: int) -> np.ndarray:
    assert places.shape[:1] == truth.shape, f"{places.shape} found for {truth.shape}"
    return (places[:, :top_k] == truth[:, None]).any(1)


def gallery_recall_scores(
    places: np.ndarray, truth: np.ndarray, *, pool_size: int, top_k: Sequence[int] = (1, 5, 10)
) -> list[Score]:
    """`gallery_recall` at several k, with Wilson's intervals over the queries.

    Args:
        places: as in `gallery_recall`.
        truth: see there.
        pool_size: N.
        top_k: a score for each, `gallery_recall_5` for instance.

    Raises:
        UserError: for a k that is not positive, or more than were found.
    """
    if not top_k or min(top_k) < 1 or max(top_k) > places.shape[1]:
        raise UserError("recall is asked at the wrong places", got=list(top_k), expected=f"1 to {places.shape[1]}")
    scores = []
    for k in top_k:
        hits = _hits(places, truth, k).astype(float)
        scores.append(
            Score(
                name=f"gallery_recall_{k}",
                value=float(hits.mean()),
                chance=min(1.0, k / pool_size),
                pool_size=pool_size,
                num_images=len(hits),
                interval=hit_rate_interval(hits),
            )
        )
    return scores
