import numpy as np
import pytest

from mindeye_pl.metrics.statistics.differences import difference_over_images, difference_over_seeds, newcombe_interval
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval, hit_rate_interval
from mindeye_pl.metrics.statistics.seeds import add_seeds


def hits_of(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hits `(n,)` of two models from the counts of a paired table."""
    counts = [both, first, second, neither]
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998, method 10
        ((18, 12, 2, 18), (0.0562, 0.3290)),
        ((53, 0, 0, 1), (-0.0729, 0.0729)),
        ((59, 6, 16, 80), (-0.1186, -0.0046)),  # Fagerland, Lydersen and Laake 2014, from Cavo et al. 2012
    ],
)
def test_newcombes_interval_equals_published_examples(
    counts: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    first, second = hits_of(*counts)
    assert newcombe_interval(first, second) == pytest.approx(interval, abs=5e-5)
    low, high = newcombe_interval(second, first)
    assert (-high, -low) == pytest.approx(interval, abs=5e-5)


def test_newcombes_interval_has_a_width_if_all_are_hits() -> None:
    miss = 1 - hit_rate_interval(np.ones(100))[0]
    assert newcombe_interval(np.ones(100), np.ones(100)) == pytest.approx((-miss, miss))


def test_fractional_hits_have_a_narrower_interval() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(8, 2, 300), rng.beta(7, 3, 300)
    hits = [(rng.random(300) < some).astype(float) for some in rates]
    fractions = newcombe_interval(*rates)
    assert np.ptp(fractions) < 0.8 * np.ptp(newcombe_interval(*hits))
    expected = bootstrap_interval(rates[0] - rates[1])
    assert fractions == pytest.approx(expected, abs=0.3 * np.ptp(expected))


@pytest.mark.parametrize("hits", [False, True])
def test_pairing_narrows_the_interval(hits: bool) -> None:
    rng = np.random.default_rng(2)
    image = rng.random(300)  # some images are easy for both models
    first, second = image + 0.1 + 0.05 * rng.standard_normal(300), image + 0.05 * rng.standard_normal(300)
    if hits:
        first, second = (first > 0.2).astype(float), (second > 0.2).astype(float)
    difference = difference_over_images(first, second, hits=hits)
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.interval[0] > (0.05 if hits else 0.08)
    unpaired = difference_over_images(first, rng.permutation(second), hits=hits)
    assert np.ptp(unpaired.interval) > (1.3 if hits else 3) * np.ptp(difference.interval)
    assert difference_over_images(second, first, hits=hits).value == pytest.approx(-difference.value)


def test_seeds_are_averaged_before_resampling() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((4, 100)), rng.random((4, 100))
    assert difference_over_images(first, second) == difference_over_images(first.mean(0), second.mean(0))


@pytest.mark.parametrize("hits", [False, True])
def test_difference_over_seeds_is_wider_than_over_images(hits: bool) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 3, 50)) > np.array([0.1, 0.2, 0.3])[:, None]
    over_images = difference_over_images(first, second, hits=hits)
    difference = difference_over_seeds(first, second, hits=hits)
    assert difference.value == pytest.approx(over_images.value)
    means = first.mean(1) - second.mean(1)
    assert difference.interval == pytest.approx(add_seeds(over_images.interval, means))
    assert np.ptp(difference.interval) > np.ptp(over_images.interval)
    with pytest.raises(AssertionError, match="2 seeds"):
        difference_over_seeds(first[:2], second[:2])
