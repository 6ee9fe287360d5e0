"""Factor of additional data that one method needs to reach another method's score.

Legend: H amounts of data, K seeds, n images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindeye_pl.metrics.statistics.differences import difference_over_seeds
from mindeye_pl.metrics.statistics.score import Interval
from mindeye_pl.metrics.statistics.seeds import MIN_SEEDS

#: Least coverage of the 95 % interval by number of seeds, in 1,000 simulated sweeps for each of four kinds of noise
#: (tests/metrics/statistics/test_data_worth.py).
COVERAGE = {3: 0.98, 4: 0.98, 5: 0.97, 8: 0.94}

#: Points of the curve between two amounts at which it is compared with the method.
_POINTS = 8


@dataclass(frozen=True)
class DataWorth:
    """Data factor of a method relative to a reference, which needs `value` times `at` for the same score.

    The value is infinite if the reference's curve never reaches the score, and zero if its smallest amount already
    exceeds it; so may be the ends of the interval.
    """

    at: float  # amount of data of the method
    value: float
    interval: Interval | None  # None with fewer than `MIN_SEEDS` seeds
    num_seeds: int
    least: float  # factor of the smallest amount on the reference's curve; smaller factors cannot be resolved
    most: float  # factor of the largest amount

    @property
    def coverage(self) -> float:
        """Least coverage of intervals from this number of seeds in simulated sweeps; of the next smaller one in it."""
        return COVERAGE[max(num for num in COVERAGE if num <= self.num_seeds)]


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
    *, amounts: Sequence[float], reference: np.ndarray, method: np.ndarray, at: float, hits: bool = False
) -> DataWorth:
    """Compute the data factor of a method: "pretraining is worth 3.1 times the data at 1 h".

    The reference's curve has positive, ascending amounts `(H,)` and per-image scores `(H, K, n)`, higher is better. The
    method has scores `(K, n)` of the same seeds and images at the amount `at`. Hits are in [0, 1].

    The 95 % interval, for other images and other seeds, spans the amounts at which the reference's score is not
    significantly different from the method's by `difference_over_seeds`. It is open at an end of the curve that is not
    different either.
    """
    assert reference.shape == (len(amounts), *method.shape), f"{reference.shape} against {method.shape}"
    num_seeds = len(method)
    value = amount_needed(amounts, reference.mean((1, 2)), float(method.mean()))
    interval = None
    if num_seeds >= MIN_SEEDS:
        low, high = _equal_amounts(amounts, reference, method, hits)
        interval = min(low, value) / at, max(high, value) / at
    return DataWorth(at, value / at, interval, num_seeds, amounts[0] / at, amounts[-1] / at)


def _equal_amounts(
    amounts: Sequence[float], reference: np.ndarray, method: np.ndarray, hits: bool
) -> tuple[float, float]:
    """Return the smallest and the largest amount at which the reference may equal the method.

    The method is better than the reference at smaller amounts, and worse at larger ones. An end of the curve at which
    they may be equal counts as zero or infinity.
    """
    positions = np.linspace(0, len(amounts) - 1, _POINTS * (len(amounts) - 1) + 1)
    intervals = []
    for position in positions:
        index = min(int(position), len(amounts) - 2)
        fraction = position - index
        scores = (1 - fraction) * reference[index] + fraction * reference[index + 1]  # (K, n)
        intervals.append(difference_over_seeds(method, scores, hits=hits).interval)
    lows, highs = np.array(intervals).T  # of method minus reference
    logs = np.interp(positions, np.arange(len(amounts)), np.log(amounts))
    return math.exp(_first_root(logs, lows)), math.exp(-_first_root(-logs[::-1], -highs[::-1]))


def _first_root(logs: np.ndarray, ends: np.ndarray) -> float:
    """Return the ascending logarithm at which ends of intervals, positive before, first reach zero.

    Minus infinity if the first end is not positive, infinity if all are.
    """
    reached = np.flatnonzero(ends <= 0)
    if not len(reached):
        return math.inf
    index = int(reached[0])
    if index == 0:
        return -math.inf
    before, after = ends[index - 1], ends[index]
    return float(logs[index - 1] + before / (before - after) * (logs[index] - logs[index - 1]))


def format_data_worth(worth: DataWorth, what: str) -> str:
    """Format as "pretraining is worth 3.1 times the data at 1 h, 95 % interval 2.4 to 4.0 (3 seeds; it covers ...)"."""
    words = f"{what} is worth {_factor(worth.value, worth)} times the data at {worth.at:g} h"
    seeds = f"{worth.num_seeds} seed" + ("s" if worth.num_seeds > 1 else "")
    if worth.interval is None:
        return f"{words} ({seeds}: without an interval, which needs at least {MIN_SEEDS})"
    low, high = (_factor(factor, worth) for factor in worth.interval)
    measured = f"{seeds}; it covers the truth in at least {100 * worth.coverage:.0f} % of simulated sweeps"
    return f"{words}, 95 % interval {low} to {high} ({measured})"


def _factor(value: float, worth: DataWorth) -> str:
    if value == 0:
        return f"less than {_digits(worth.least)}"
    return f"more than {_digits(worth.most)}" if math.isinf(value) else _digits(value)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
