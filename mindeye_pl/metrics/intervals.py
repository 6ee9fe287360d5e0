"""How sure a score is: intervals over pictures, and over seeds.

Legend: n pictures, K seeds.
"""

from dataclasses import dataclass

import numpy as np

from mindeye_pl.metrics.score import Interval


@dataclass(frozen=True)
class Difference:
    """Mean difference of two paired sets of scores.

    Attributes:
        value: mean of first minus second.
        interval: of that mean.
        num_pairs: pictures or seeds that it is over.
    """

    value: float
    interval: Interval
    num_pairs: int


def bootstrap_interval(
    values: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    method: str = "percentile",
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the (weighted) mean, pictures drawn with replacement.

    Args:
        values: `(n,)`, one for each picture.
        weights: `(n,)`, not negative; equal ones where None.
        confidence: share of resampled means inside.
        num_resamples: resampled means.
        method: "percentile" or "BCa", as `scipy.stats.bootstrap` names them.
        seed: of the draws.

    Returns:
        The two ends, equal where all values are: resampling cannot see beyond them.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    assert values.ndim == 1, values.shape
    assert weights.shape == values.shape, weights.shape
    values, weights = values[weights > 0], weights[weights > 0]
    assert len(values), "no values"
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])

    def weighted_mean(values: np.ndarray, weights: np.ndarray, axis: int = -1) -> np.ndarray:
        return (values * weights).sum(axis) / weights.sum(axis)

    result = bootstrap(
        (values, weights),
        weighted_mean,
        paired=True,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=num_resamples,
        method=method,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)


def hit_rate_interval(
    hits: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    method: str = "percentile",
    seed: int = 0,
) -> Interval:
    """Interval of a share of hits: the bootstrap, or Wilson's where every picture or none is a hit.

    In those two cases every resample looks the same and the bootstrap would claim certainty.

    Args:
        hits: `(n,)` in [0, 1].
        weights: as in `bootstrap_interval`, as all that follow.
        confidence: see there.
        num_resamples: see there.
        method: see there.
        seed: see there.
    """
    hits = np.asarray(hits, dtype=np.float64)
    counted = hits if weights is None else hits[np.asarray(weights) > 0]
    if np.all(counted == 0) or np.all(counted == 1):
        return wilson_interval(int(counted.sum()), len(counted), confidence=confidence)
    return bootstrap_interval(
        hits, weights=weights, confidence=confidence, num_resamples=num_resamples, method=method, seed=seed
    )


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion."""
    from scipy.stats import binomtest

    result = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(result.low), float(result.high)


def difference_over_pictures(
    first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Difference:
    """Difference of two models scored on the same pictures, bootstrapped over pictures.

    Args:
        first: `(n,)` scores of one model, or `(K, n)` of its seeds, whose mean is taken first.
        second: of the other, the same pictures in the same order.
        confidence: of the interval.
        num_resamples: of the bootstrap.
        seed: of the draws.
    """
    per_picture = [np.asarray(scores, dtype=np.float64) for scores in (first, second)]
    means = [scores.mean(0) if scores.ndim == 2 else scores for scores in per_picture]  # (n,) each
    assert means[0].shape == means[1].shape, f"{means[0].shape} against {means[1].shape} pictures"
    difference = means[0] - means[1]
    interval = bootstrap_interval(difference, confidence=confidence, num_resamples=num_resamples, seed=seed)
    return Difference(float(difference.mean()), interval, len(difference))


def difference_over_seeds(first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95) -> Difference:
    """Difference of two models trained with the same seeds, by Student's t: seeds are too few for a bootstrap.

    Args:
        first: `(K,)`, K > 1, one model's score for each seed.
        second: the other's, the same seeds in the same order.
        confidence: of the interval.
    """
    from scipy.stats import t

    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    assert difference.ndim == 1, difference.shape
    assert len(difference) > 1, "one seed says nothing about the spread over seeds"
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))
    half = float(t.ppf((1 + confidence) / 2, len(difference) - 1) * error)
    return Difference(float(mean), (float(mean) - half, float(mean) + half), len(difference))
