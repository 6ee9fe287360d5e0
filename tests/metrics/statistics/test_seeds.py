import numpy as np
import pytest
from scipy.stats import ttest_1samp

from mindeye_pl.metrics.statistics.intervals import bootstrap_interval, hit_rate_interval
from mindeye_pl.metrics.statistics.seeds import add_seeds, interval_over_seeds


def test_the_interval_of_seeds_alone_is_students() -> None:
    means = np.random.default_rng(0).random(4)
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    assert add_seeds((means.mean(), means.mean()), means) == pytest.approx((expected.low, expected.high))


def test_equal_seeds_leave_the_interval_over_images() -> None:
    assert add_seeds((0.3, 0.9), np.full(3, 0.5)) == pytest.approx((0.3, 0.9))


def test_both_distances_are_squared_and_added() -> None:
    means = np.array([0.4, 0.5, 0.6])
    half = ttest_1samp(means, 0).confidence_interval(0.95).high - 0.5
    low, high = add_seeds((0.3, 0.9), means)
    assert (0.5 - low) ** 2 == pytest.approx(0.2**2 + half**2)
    assert (high - 0.5) ** 2 == pytest.approx(0.4**2 + half**2)


def test_two_seeds_have_no_interval() -> None:
    with pytest.raises(AssertionError, match="2 seeds"):
        interval_over_seeds(np.ones((2, 5)))


def test_hits_stay_between_zero_and_one() -> None:
    hits = np.ones((3, 40))
    assert interval_over_seeds(hits, hits=True) == pytest.approx(hit_rate_interval(hits[0]))
    hits[0, :20] = 0
    low, high = interval_over_seeds(hits, hits=True)
    assert 0 < low < hits.mean() < high == 1


def test_the_mean_over_seeds_is_resampled() -> None:
    scores = np.random.default_rng(1).standard_normal((3, 50))
    low, high = interval_over_seeds(scores)
    inner = bootstrap_interval(scores.mean(0))
    assert low < inner[0] < scores.mean() < inner[1] < high
