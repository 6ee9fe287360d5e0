"""Confidence intervals of a model's mean score over images.

Resampling starts from sorted values, so that the order of the images does not matter.

Legend: n images, R resamples.
"""

from functools import lru_cache

import numpy as np

from mindeye_pl.metrics.statistics.score import Interval

#: Weight of the whole sample's variance in a resample's variance. Scores near their limit are mostly equal values; a
#: resample of equal values has no variance, and its Student's t would be unbounded.
_SHRINKAGE = 0.05


def bootstrap_interval(
    values: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    bounds: Interval | None = None,
    seed: int = 0,
) -> Interval:
    """Compute an interval of the (weighted) mean by the bootstrap of Student's t, resampling images with replacement.

    The coverage of a 95 % interval over 1,500 simulated sets of 100 values each is 95 % for normal values, 1 minus
    exponential values, and values concentrated at 1 (beta of 9 and 0.3); for two-way identification, at scores of 0.95
    to 0.97, it is 93 to 95 %. Percentile and BCa bootstraps undercover on the side of the tail by up to 3 %.

    Values and weights are `(n,)`, one per image; weights are not negative, and equal if None. The interval is clipped
    to the bounds of the mean, (0, 1) for a fraction. Its ends coincide if all values are equal, because resampling
    cannot add variation; if all equal one of the bounds, the interval is Wilson's.
    """
    values, weights = _sorted(values, weights)
    if np.ptp(values) == 0 and bounds is not None and values[0] in bounds:
        low, high = wilson_interval(len(values) * int(values[0] == bounds[1]), len(values), confidence=confidence)
        return bounds[0] + low * (bounds[1] - bounds[0]), bounds[0] + high * (bounds[1] - bounds[0])
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    mean = float(weights @ values / weights.sum())
    means, errors = _resampled(values - mean, weights, num_resamples, seed)  # (R,) each, means less `mean`
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    error = float(np.sqrt((weights**2 * (values - mean) ** 2).sum()) / weights.sum())  # linearised in the weights
    students = means / np.sqrt((1 - _SHRINKAGE) * errors**2 + _SHRINKAGE * error**2)  # (R,)
    low, high = -error * np.quantile(students, tails[::-1])
    interval = mean + float(low), mean + float(high)
    return interval if bounds is None else (max(bounds[0], interval[0]), min(bounds[1], interval[1]))


def _sorted(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 `(n,)`, sorted by value, without zero weights."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    assert values.ndim == 1, values.shape
    assert weights.shape == values.shape, weights.shape
    values, weights = values[weights > 0], weights[weights > 0]
    assert len(values), "no values"
    order = np.lexsort((weights, values))
    return values[order], weights[order]


@lru_cache(maxsize=4)
def _draws(num: int, num_resamples: int, seed: int) -> np.ndarray:
    """Draw the multiplicity of each of n values in each resample, `(R, n)` float64; cached per evaluation."""
    rng = np.random.default_rng(seed)
    counts = np.empty((num_resamples, num))
    for row in counts:
        row[:] = np.bincount(rng.integers(0, num, num), minlength=num)
    counts.flags.writeable = False
    return counts


def _resampled(
    centred: np.ndarray, weights: np.ndarray, num_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the resamples' weighted means and their standard errors, `(R,)` each."""
    draws = _draws(len(centred), num_resamples, seed)
    squares = weights**2
    sums = draws @ np.stack([weights, weights * centred, squares, squares * centred, squares * centred**2], 1)  # (R, 5)
    means = sums[:, 1] / sums[:, 0]
    variances = sums[:, 4] - 2 * means * sums[:, 3] + means**2 * sums[:, 2]
    return means, np.sqrt(np.maximum(variances, 0)) / sums[:, 0]


def hit_rate_interval(hits: np.ndarray, *, weights: np.ndarray | None = None) -> Interval:
    """Compute Wilson's 95 % interval of a hit rate, generalised to fractional hits of pools and ties.

    An image queried in several pools has a mean of hits, which varies less than single hits. Wilson's formula then uses
    the effective number of binary images, n p (1 - p) / s^2, with both p and s^2 computed after adding Wilson's z^2
    images of which half are hits. For hits of 0 and 1 this is n, and the interval equals Wilson's. If all are hits, a
    bootstrap would have zero width; on sets of 100 images with a rate of 2 % its coverage is 85 %, that of this
    interval 95 %. Hits are `(n,)` in [0, 1]; weights `(n,)` as of `bootstrap_interval`.
    """
    from scipy.special import ndtri

    hits, weights = _sorted(hits, weights)
    assert hits[0] >= 0, hits[0]
    assert hits[-1] <= 1, hits[-1]
    squared = float(ndtri((1 + 0.95) / 2)) ** 2
    num = weights.sum() ** 2 / (weights**2).sum()
    rate = float(weights @ hits / weights.sum())
    middle = (num * rate + squared / 2) / (num + squared)
    spread = num * (weights**2 @ (hits - middle) ** 2) / (weights**2).sum()
    variance = (spread + squared / 2 * ((1 - middle) ** 2 + middle**2)) / (num + squared)
    num = num * middle * (1 - middle) / variance
    centre = (rate + squared / (2 * num)) / (1 + squared / num)
    half = np.sqrt(squared * rate * (1 - rate) / num + (squared / (2 * num)) ** 2) / (1 + squared / num)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion."""
    from scipy.stats import binomtest

    result = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(result.low), float(result.high)


def interval_over_images(values: np.ndarray, *, hits: bool, seed: int = 0) -> Interval:
    """Compute the 95 % interval of a mean of scores `(n,)`: `hit_rate_interval` of hits, else `bootstrap_interval`."""
    return hit_rate_interval(values) if hits else bootstrap_interval(values, seed=seed)
