"""Factor of additional data that one method needs to reach another method's score.

Legend: H amounts of data, K seeds, n images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.metrics.statistics.score import Interval


@dataclass(frozen=True)
class DataWorth:
    """Data factor of a method relative to a reference, which needs `value` times `at` for the same score.

    The value is infinite if the reference's curve never reaches the score, and zero if its smallest amount already
    exceeds it; so may be the ends of the interval.
    """

    at: float  # amount of data of the method
    value: float
    interval: Interval
    least: float  # factor of the smallest amount on the reference's curve; smaller factors cannot be resolved
    most: float  # factor of the largest amount


def amount_needed(amounts: Sequence[float], scores: np.ndarray, target: float) -> float:
    """Return the amount of data at which a curve reaches a score.

    The curve is assumed to be monotonic: it is the isotonic regression of the scores `(H,)`, interpolated linearly over
    the logarithm of the positive, ascending amounts. Infinite if the curve ends below the target, zero if it starts
    above it.
    """
    from scipy.optimize import isotonic_regression

    assert len(amounts) == len(scores) > 0, f"{len(amounts)} amounts, {len(scores)} scores"
    assert list(amounts) == sorted(set(amounts)), amounts
    curve = isotonic_regression(np.asarray(scores, dtype=np.float64)).x
    if target > curve[-1]:
        return math.inf
    if target < curve[0]:
        return 0.0
    index = int(np.searchsorted(curve, target))  # first point that is not below the target
    if curve[index] == target:
        return float(amounts[index])
    fraction = (target - curve[index - 1]) / (curve[index] - curve[index - 1])
    logs = np.log(amounts)
    return float(np.exp(logs[index - 1] + fraction * (logs[index] - logs[index - 1])))


def data_worth(
    *,
    amounts: Sequence[float],
    reference: np.ndarray,
    method: np.ndarray,
    at: float,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> DataWorth:
    """Compute the data factor of a method: "pretraining is worth 3.1 times the data at 1 h".

    The interval is a quantile bootstrap: each resample draws images and seeds with replacement, the same ones for both
    methods. Variation that is specific to an image and a seed is resampled twice, which makes the interval too wide
    (Owen, The pigeonhole bootstrap, 2007); variation of a seed over all images is resampled from few seeds, which makes
    it too narrow with two or three seeds.

    The reference's curve has positive, ascending amounts `(H,)` and per-image scores `(H, K, n)`, higher is better. The
    method has scores `(K, n)` of the same seeds and images at the amount `at`.
    """
    assert reference.shape == (len(amounts), *method.shape), f"{reference.shape} against {method.shape}"
    num_seeds, num_images = method.shape
    rng = np.random.default_rng(seed)
    needed = np.empty(num_resamples)
    for index in range(num_resamples):
        images = rng.multinomial(num_images, np.full(num_images, 1 / num_images)) / num_images  # (n,)
        seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds)) / num_seeds  # (K,)
        needed[index] = amount_needed(amounts, seeds @ (reference @ images).T, float(seeds @ method @ images))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(needed, tails, method="inverted_cdf")  # no interpolation between a number and infinity
    value = amount_needed(amounts, reference.mean((1, 2)), float(method.mean()))
    return DataWorth(at, value / at, (float(low) / at, float(high) / at), amounts[0] / at, amounts[-1] / at)


def format_data_worth(worth: DataWorth, what: str) -> str:
    """Format as "pretraining is worth 3.1 times the data at 1 h, 95 % interval 2.4 to 4.0"."""
    value, low, high = (_factor(factor, worth) for factor in (worth.value, *worth.interval))
    return f"{what} is worth {value} times the data at {worth.at:g} h, 95 % interval {low} to {high}"


def _factor(value: float, worth: DataWorth) -> str:
    if value == 0:
        return f"less than {_digits(worth.least)}"
    return f"more than {_digits(worth.most)}" if math.isinf(value) else _digits(value)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
