"""How much more data one method would need to score what another one scores.

Legend: H amounts of data, K seeds, n images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.metrics.statistics.score import Interval


@dataclass(frozen=True)
class DataWorth:
    """A factor of data.

    Attributes:
        at: the amount of data that the method has.
        value: the reference needs so many times `at` to score the same; infinite where it never does within its curve,
            zero where its smallest amount already scores more.
        interval: of the factor, its ends infinite or zero for the same reasons.
        least: the factor at the smallest amount of the reference's curve, that nothing below it can be told from.
        most: the same at the largest amount.
    """

    at: float
    value: float
    interval: Interval
    least: float
    most: float


def amount_needed(amounts: Sequence[float], scores: np.ndarray, target: float) -> float:
    """The amount of data at which a curve reaches a score.

    More data are taken not to hurt: the curve is the isotonic regression of the scores, read between its points as a
    straight line over the logarithm of the amount.

    Args:
        amounts: `(H,)`, positive and ascending.
        scores: `(H,)`, higher is better.
        target: the score to be reached.

    Returns:
        The amount, infinite where the curve ends below the target, zero where it begins above it.
    """
    from scipy.optimize import isotonic_regression

    assert len(amounts) == len(scores) > 0, f"{len(amounts)} amounts, {len(scores)} scores"
    assert list(amounts) == sorted(set(amounts)), amounts
    curve = isotonic_regression(np.asarray(scores, dtype=np.float64)).x
    if target > curve[-1]:
        return math.inf
    if target < curve[0]:
        return 0.0
    place = int(np.searchsorted(curve, target))  # the first point that is not below
    if curve[place] == target:
        return float(amounts[place])
    share = (target - curve[place - 1]) / (curve[place] - curve[place - 1])
    logs = np.log(amounts)
    return float(np.exp(logs[place - 1] + share * (logs[place] - logs[place - 1])))


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
    """What a method is worth in data: "pretraining is worth 3.1 times the data at 1 h".

    The interval is the bootstrap's, by quantiles: in each resample images are drawn with replacement, and so are
    seeds, the same ones for both methods. Luck that differs from image to image is drawn twice, which makes it too
    wide (Owen, The pigeonhole bootstrap, 2007); a seed's luck with all images is drawn from few, which makes it too
    narrow with two or three seeds.

    Args:
        amounts: `(H,)` of the reference's curve, positive and ascending.
        reference: `(H, K, n)` scores of each image, higher is better.
        method: `(K, n)` the method's at the amount `at`, for the same seeds and images.
        at: the amount of data that the method has.
        confidence: of the interval.
        num_resamples: of the bootstrap.
        seed: of the draws.

    Raises:
        AssertionError: for other shapes.
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
    low, high = np.quantile(needed, tails, method="inverted_cdf")  # never between a number and infinity
    value = amount_needed(amounts, reference.mean((1, 2)), float(method.mean()))
    return DataWorth(at, value / at, (float(low) / at, float(high) / at), amounts[0] / at, amounts[-1] / at)


def in_words(worth: DataWorth, what: str, unit: str = "h") -> str:
    """One sentence: "pretraining is worth 3.1 times the data at 1 h, 95 % interval 2.4 to 4.0"."""
    value, low, high = (_factor(factor, worth) for factor in (worth.value, *worth.interval))
    return f"{what} is worth {value} times the data at {worth.at:g} {unit}, 95 % interval {low} to {high}"


def _factor(value: float, worth: DataWorth) -> str:
    if value == 0:
        return f"less than {_digits(worth.least)}"
    return f"more than {_digits(worth.most)}" if math.isinf(value) else _digits(value)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
