"""Coverage of 95 % intervals near saturation, and for other seeds: at least 93 % at every point of the grids.

Wilson's interval of one rate covers 91 % where half a miss is expected; its coverage is computed without drawing.
The standard error of a coverage of 95 % is 1.1 % over 400 sets. The slow cases have more sets and points.
"""

from itertools import product

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from mindeye_pl.metrics.statistics.differences import difference_over_seeds, newcombe_interval
from mindeye_pl.metrics.statistics.intervals import hit_rate_interval
from mindeye_pl.metrics.statistics.score import Interval
from mindeye_pl.metrics.statistics.seeds import interval_over_seeds
from tests.metrics.statistics.test_differences import hits_of

slow = pytest.mark.slow
ROUNDING = 1e-9


def holds(interval: Interval, truth: float) -> bool:
    return interval[0] - ROUNDING <= truth <= interval[1] + ROUNDING


def paired_coverage(num_images: int, rates: tuple[float, float], dependence: float, num_sets: int) -> float:
    """Return the coverage of Newcombe's interval; a dependence of 1 is the strongest that the rates allow."""
    first, second = rates
    both = first * second + dependence * (min(rates) - first * second)
    table = np.array([both, first - both, second - both, 1 - first - second + both]).clip(0)
    drawn = np.random.default_rng(0).multinomial(num_images, table / table.sum(), num_sets)
    tables, counts = np.unique(drawn, axis=0, return_counts=True)
    held = [holds(newcombe_interval(*hits_of(*each)), first - second) for each in tables.tolist()]
    return float(counts @ np.array(held) / num_sets)


@pytest.mark.parametrize("num_images", [100, 300, 1000])
def test_coverage_of_a_hit_rate_near_saturation(num_images: int) -> None:
    misses = np.arange(30 + num_images // 5)
    intervals = [hit_rate_interval(np.repeat([1.0, 0.0], [num_images - some, some])) for some in misses]
    for rate in (0.9, 0.95, 0.98, 0.985, 0.99, 0.995):
        held = np.array([holds(interval, rate) for interval in intervals])
        coverage = float(binom.pmf(misses, num_images, 1 - rate) @ held)
        assert coverage >= (0.93 if num_images * (1 - rate) > 1.4 else 0.90), rate


SATURATED = [(0.9, 0.9), (0.95, 0.9), (0.98, 0.95), (0.99, 0.98), (1.0, 0.9), (1.0, 0.98)]


@pytest.mark.parametrize("num_images", [100, 300, 1000])
def test_coverage_of_paired_hit_rates_near_saturation(num_images: int) -> None:
    for rates, dependence in product(SATURATED[1:4], (0.0, 0.8)):
        assert paired_coverage(num_images, rates, dependence, 400) >= 0.93, (rates, dependence)


@slow
@pytest.mark.parametrize("num_images", [100, 300, 1000])
def test_coverage_of_paired_hit_rates_on_a_large_grid(num_images: int) -> None:
    for rates, dependence in product([*SATURATED, (0.99, 0.9), (1.0, 0.99)], (0.0, 0.5, 0.9)):
        assert paired_coverage(num_images, rates, dependence, 3000) >= 0.94, (rates, dependence)


def draw_hits(
    rate: float, hard: np.ndarray, num_seeds: int, seed_spread: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw hits `(K, n)` with this expected rate; images are hard `(n,)` for all methods and for this one."""
    threshold = ndtri(rate) * np.sqrt(2 + 0.25 + seed_spread**2)
    own, seeds = 0.5 * rng.standard_normal(len(hard)), seed_spread * rng.standard_normal((num_seeds, 1))
    return (threshold + seeds + hard + own + rng.standard_normal((num_seeds, len(hard))) > 0).astype(float)


def seeds_coverage(
    num_seeds: int, num_images: int, rates: tuple[float, float], seed_spread: float, num_sets: int
) -> tuple[float, float]:
    """Return the coverage for other seeds and images: of a difference of hit rates, and of the first rate."""
    rng, held = np.random.default_rng(1), np.zeros((num_sets, 2))
    for row in held:
        hard = rng.standard_normal(num_images)
        first, second = (draw_hits(rate, hard, num_seeds, seed_spread, rng) for rate in rates)
        row[0] = holds(difference_over_seeds(first, second, hits=True).interval, rates[0] - rates[1])
        row[1] = holds(interval_over_seeds(first, hits=True), rates[0])
    paired, unpaired = held.mean(0)
    return float(paired), float(unpaired)


@pytest.mark.parametrize("seed_spread", [0.1, 0.5])
def test_coverage_of_hit_rates_for_other_seeds(seed_spread: float) -> None:
    for rates in ((0.9, 0.9), (0.98, 0.95)):
        assert min(seeds_coverage(3, 100, rates, seed_spread, 200)) >= 0.93, rates


@slow
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_coverage_of_hit_rates_for_other_seeds_on_a_large_grid(num_seeds: int) -> None:
    rates = [(0.5, 0.3), *SATURATED[:4], (0.995, 0.9)]
    for num_images, pair, seed_spread in product((100, 300), rates, (0.0, 0.1, 0.3, 0.5)):
        least = 0.93 if seed_spread < 0.5 else 0.9  # the rates of seeds are skewed: 5 points at a rate of 0.9
        assert min(seeds_coverage(num_seeds, num_images, pair, seed_spread, 500)) >= least, (pair, seed_spread)


def means_coverage(num_seeds: int, spreads: tuple[float, float, float], num_images: int, num_sets: int) -> float:
    """Return the coverage of a difference of means for other seeds and images, by spreads of seeds, images, both."""
    seeds, images, both = spreads
    rng, held = np.random.default_rng(2), []
    for _ in range(num_sets):
        difference = images * rng.standard_normal(num_images) + seeds * rng.standard_normal((num_seeds, 1))
        difference = difference + both * rng.standard_normal((num_seeds, num_images))
        held.append(holds(difference_over_seeds(difference, np.zeros_like(difference)).interval, 0.0))
    return float(np.mean(held))


@pytest.mark.parametrize("spreads", [(0.3, 0.1, 0.1), (0.1, 1.0, 0.5)], ids=["seeds", "images"])
def test_coverage_of_means_for_other_seeds(spreads: tuple[float, float, float]) -> None:
    assert means_coverage(3, spreads, 40, 200) >= 0.93


@slow
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_coverage_of_means_for_other_seeds_on_a_large_grid(num_seeds: int) -> None:
    for spreads in product((0.0, 0.05, 0.1, 0.5), (0.0, 1.0, 3.0), (0.1, 1.0)):
        assert means_coverage(num_seeds, spreads, 100, 500) >= 0.93, spreads
