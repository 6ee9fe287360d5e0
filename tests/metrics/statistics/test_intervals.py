import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp, ttest_rel

from mindeye_pl.metrics.statistics.intervals import (
    bootstrap_interval,
    difference_over_images,
    difference_over_seeds,
    hit_rate_interval,
    interval_over_groups,
    paired_test,
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
    first, second = rng.random((2, 50))
    assert paired_test(first[order], second[order]).p_value == paired_test(first, second).p_value


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


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(2)
    image = rng.random(300)  # some images are easy for both models
    first, second = image + 0.1 + 0.05 * rng.standard_normal(300), image + 0.05 * rng.standard_normal(300)
    difference = difference_over_images(first, second)
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.interval[0] > 0.08
    assert difference.num_pairs == 300
    unpaired = difference_over_images(first, rng.permutation(second))
    assert np.ptp(unpaired.interval) > 3 * np.ptp(difference.interval)
    swapped = difference_over_images(second, first)
    assert swapped.value == pytest.approx(-difference.value)


def test_seeds_are_averaged_before_resampling() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((4, 100)), rng.random((4, 100))
    assert difference_over_images(first, second) == difference_over_images(first.mean(0), second.mean(0))


def test_difference_over_seeds_equals_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random(5), rng.random(5)
    difference = difference_over_seeds(first, second)
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert difference.interval == pytest.approx((expected.low, expected.high))
    assert difference.value == pytest.approx((first - second).mean())
    with pytest.raises(AssertionError, match="at least two seeds"):
        difference_over_seeds(first[:1], second[:1])


@pytest.mark.parametrize("num", [9, 60])
def test_sign_flip_test_equals_scipy(num: int) -> None:
    rng = np.random.default_rng(num)
    first = rng.random(num)
    second = first - 0.04 + 0.2 * rng.standard_normal(num)

    def mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return (a - b).mean(axis)

    expected = permutation_test(
        (first, second), mean_difference, permutation_type="samples", vectorized=True, n_resamples=20_000, rng=1
    ).pvalue
    found = paired_test(first, second, num_resamples=20_000)
    assert found.p_value == pytest.approx(expected, abs=1e-9 if num == 9 else 0.012)
    assert found.value == pytest.approx((first - second).mean())
    assert found.interval == difference_over_images(first, second).interval
    assert paired_test(second, first, num_resamples=20_000).p_value == pytest.approx(found.p_value, abs=0.012)


def test_p_values_are_near_students() -> None:
    rng = np.random.default_rng(5)
    first = rng.standard_normal(80)
    for gain in (0.0, 0.15, 0.4):
        second = first - gain + 0.8 * rng.standard_normal(80)
        found, expected = paired_test(first, second), ttest_rel(first, second).pvalue
        assert found.p_value == pytest.approx(expected, abs=0.03)
    assert paired_test(first, first).p_value == 1
    assert paired_test(first, first - 1).p_value == pytest.approx(0, abs=0.001)


def test_interval_over_groups_uses_group_means() -> None:
    rng = np.random.default_rng(7)
    groups = [0.5 + 0.1 * k + rng.standard_normal(n) for k, n in enumerate((10, 20, 400))]
    means = np.array([group.mean() for group in groups])
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    assert interval_over_groups(groups) == pytest.approx((expected.low, expected.high))
    seeds = [np.stack([group + 1, group - 1]) for group in groups]
    assert interval_over_groups(seeds) == pytest.approx((expected.low, expected.high))
    with pytest.raises(AssertionError, match="at least two groups"):
        interval_over_groups(groups[:1])
    assert interval_over_groups(np.ones((3, 5)), shared_images=True) == (1, 1)


def test_shared_images_widen_the_interval_of_subjects() -> None:
    rng = np.random.default_rng(8)
    table = rng.standard_normal((4, 1)) / 100 + rng.standard_normal(30) + rng.standard_normal((4, 30)) / 10
    assert np.ptp(interval_over_groups(table, shared_images=True)) > 2 * np.ptp(interval_over_groups(table))
    unshared = rng.standard_normal((4, 1)) + rng.standard_normal((4, 30)) / 10
    pair = interval_over_groups(unshared), interval_over_groups(unshared, shared_images=True)
    assert pair[0] == pytest.approx(pair[1], rel=0.05)
