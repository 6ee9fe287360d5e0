import numpy as np
import pytest
from scipy.stats import ttest_rel

from mindeye_pl.metrics.intervals import (
    bootstrap_interval,
    difference_over_pictures,
    difference_over_seeds,
    hit_rate_interval,
    wilson_interval,
)


def test_percentile_against_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random(200), rng.integers(1, 5, 200).astype(float)
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 200, 200)
        means.append(np.average(values[drawn], weights=weights[drawn]))
    low, high = bootstrap_interval(values, weights=weights, num_resamples=4000)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.006)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_interval_covers_the_truth_about_as_often_as_it_says(method: str) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        hits = rng.random(100) < 0.3
        low, high = bootstrap_interval(hits, num_resamples=300, method=method)
        covered += low <= 0.3 <= high
    assert 0.86 <= covered / 150 <= 1.0


def test_interval_follows_from_its_seed_alone() -> None:
    values = np.random.default_rng(0).random(50)
    np.random.seed(0)
    first = bootstrap_interval(values)
    np.random.seed(1)
    assert bootstrap_interval(values) == first
    assert bootstrap_interval(values, seed=1) != first


def test_pictures_that_never_asked_do_not_count() -> None:
    values, weights = np.array([0.0, 1.0, 1.0, 0.5]), np.array([2.0, 1.0, 3.0, 0.0])
    assert bootstrap_interval(values, weights=weights) == bootstrap_interval(values[:3], weights=weights[:3])
    assert hit_rate_interval(np.array([1.0, 1.0, 0.0]), weights=np.array([1, 1, 0])) == wilson_interval(2, 2)


def test_all_hits_are_no_certainty() -> None:
    assert bootstrap_interval(np.ones(50)) == (1.0, 1.0)
    low, high = hit_rate_interval(np.ones(50))
    assert 0.9 < low < 0.95
    assert high == pytest.approx(1)
    low, high = hit_rate_interval(np.zeros(50))
    assert low == pytest.approx(0)
    assert 0.05 < high < 0.1
    mixed = np.arange(50) % 2
    assert hit_rate_interval(mixed) == bootstrap_interval(mixed)


def test_pairing_narrows_the_difference() -> None:
    rng = np.random.default_rng(2)
    picture = rng.random(300)  # some pictures are easy for both models
    first, second = picture + 0.1 + 0.05 * rng.standard_normal(300), picture + 0.05 * rng.standard_normal(300)
    difference = difference_over_pictures(first, second)
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.interval[0] > 0.08
    assert difference.num_pairs == 300
    unpaired = difference_over_pictures(first, rng.permutation(second))
    assert np.ptp(unpaired.interval) > 3 * np.ptp(difference.interval)
    swapped = difference_over_pictures(second, first)
    assert swapped.value == pytest.approx(-difference.value)


def test_seeds_are_averaged_before_pictures_are_drawn() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((4, 100)), rng.random((4, 100))
    assert difference_over_pictures(first, second) == difference_over_pictures(first.mean(0), second.mean(0))


def test_difference_over_seeds_against_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random(5), rng.random(5)
    difference = difference_over_seeds(first, second)
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert difference.interval == pytest.approx((expected.low, expected.high))
    assert difference.value == pytest.approx((first - second).mean())
    with pytest.raises(AssertionError, match="one seed"):
        difference_over_seeds(first[:1], second[:1])
