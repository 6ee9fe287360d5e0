import numpy as np
import pytest

from mindeye_pl.metrics.statistics.intervals import (
    bootstrap_interval,
    hit_rate_interval,
    interval_over_images,
    wilson_interval,
)


def test_bootstrap_t_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.gamma(1.0, 1.0, 60), rng.integers(1, 5, 60).astype(float)
    mean = np.average(values, weights=weights)

    def error(values: np.ndarray, weights: np.ndarray, mean: float) -> float:
        return np.sqrt((weights**2 * (values - mean) ** 2).sum()) / weights.sum()

    whole, students = error(values, weights, mean), []
    for _ in range(6000):
        drawn = rng.integers(0, 60, 60)
        again = np.average(values[drawn], weights=weights[drawn])
        own = error(values[drawn], weights[drawn], again)
        students.append((again - mean) / np.sqrt(0.95 * own**2 + 0.05 * whole**2))
    low, high = mean - whole * np.quantile(students, [0.975, 0.025])
    found = bootstrap_interval(values, weights=weights, num_resamples=6000)
    assert found == pytest.approx((low, high), abs=0.06 * (high - low))
    assert high - mean > mean - low, "the tail is on the right"


def test_interval_of_nearly_equal_values_is_bounded() -> None:
    values = np.ones(100)
    values[:2] = 0.9
    low, high = bootstrap_interval(values, bounds=(0, 1))
    assert 0.98 < low < values.mean() < high <= 1
    assert bootstrap_interval(np.ones(100), bounds=(0, 1)) == wilson_interval(100, 100)
    assert bootstrap_interval(-np.ones(100), bounds=(-1, 1)) == pytest.approx((-1, 2 * wilson_interval(0, 100)[1] - 1))


def test_scores_do_not_depend_on_image_order() -> None:
    rng = np.random.default_rng(0)
    values, weights, order = rng.random(50), rng.integers(1, 4, 50), rng.permutation(50)
    assert bootstrap_interval(values[order], weights=weights[order]) == bootstrap_interval(values, weights=weights)


def test_coverage_of_bootstrap_intervals() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        hits = rng.random(100) < 0.3
        low, high = bootstrap_interval(hits, num_resamples=300)
        covered += low <= 0.3 <= high
    assert 0.86 <= covered / 150 <= 1.0


def test_interval_depends_only_on_its_seed() -> None:
    values = np.random.default_rng(0).random(50)
    np.random.seed(0)
    first = bootstrap_interval(values)
    np.random.seed(1)
    assert bootstrap_interval(values) == first
    assert bootstrap_interval(values, seed=1) != first


def test_images_with_weight_zero_do_not_count() -> None:
    values, weights = np.array([0.0, 1.0, 1.0, 0.5]), np.array([2.0, 1.0, 3.0, 0.0])
    assert bootstrap_interval(values, weights=weights) == bootstrap_interval(values[:3], weights=weights[:3])
    assert hit_rate_interval(np.array([1.0, 1.0, 0.0]), weights=np.array([1, 1, 0])) == wilson_interval(2, 2)


def test_interval_of_all_hits_has_a_width() -> None:
    assert bootstrap_interval(np.ones(50)) == (1.0, 1.0)
    low, high = hit_rate_interval(np.ones(50))
    assert 0.9 < low < 0.95
    assert high == pytest.approx(1)
    low, high = hit_rate_interval(np.zeros(50))
    assert low == pytest.approx(0)
    assert 0.05 < high < 0.1


@pytest.mark.parametrize("hits", [0, 1, 17, 49, 50])
def test_interval_of_binary_hits_is_wilsons(hits: int) -> None:
    values = (np.arange(50) < hits).astype(float)
    assert hit_rate_interval(values) == pytest.approx(wilson_interval(hits, 50))
    assert hit_rate_interval(values, weights=np.full(50, 3.0)) == pytest.approx(wilson_interval(hits, 50))


def test_interval_of_fractional_hits_is_narrower() -> None:
    rng = np.random.default_rng(0)
    fractions = rng.beta(4, 2, 300)
    hits = (rng.random(300) < fractions).astype(float)
    assert np.ptp(hit_rate_interval(fractions)) < 0.7 * np.ptp(hit_rate_interval(hits))
    expected = bootstrap_interval(fractions)
    assert hit_rate_interval(fractions) == pytest.approx(expected, abs=0.3 * np.ptp(expected))
    nearly = np.ones(100)
    nearly[0] = 0.9
    low, high = hit_rate_interval(nearly)
    assert 0.95 < low < 0.98
    assert 0.99 < high <= 1


def test_interval_over_images_is_wilsons_for_hits() -> None:
    hits = np.array([1.0, 1.0, 0.0, 1.0])
    assert interval_over_images(hits, hits=True) == pytest.approx(wilson_interval(3, 4))
    assert interval_over_images(hits, hits=False) == bootstrap_interval(hits)
