import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from mindeye_pl.metrics.statistics.data_worth import DataWorth, amount_needed, data_worth, in_words

HOURS = [0.25, 0.5, 1.0, 2.0, 4.0]


def test_between_two_points_the_logarithm_of_the_amount_counts() -> None:
    assert amount_needed([1, 4], np.array([0.0, 1.0]), 0.5) == pytest.approx(2)
    assert amount_needed([1, 2, 8], np.array([0.0, 0.4, 0.8]), 0.6) == pytest.approx(4)


def test_a_point_of_the_curve_is_its_own_amount() -> None:
    scores = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    for amount, score in zip(HOURS, scores, strict=True):
        assert amount_needed(HOURS, scores, score) == amount


def test_outside_the_curve_there_is_no_number() -> None:
    assert amount_needed(HOURS, np.linspace(0.2, 0.8, 5), 0.81) == math.inf
    assert amount_needed(HOURS, np.linspace(0.2, 0.8, 5), 0.19) == 0


@given(
    scores=st.lists(st.floats(0, 1), min_size=2, max_size=5),
    target=st.floats(0, 1),
)
def test_the_curve_is_the_isotonic_regression(scores: list[float], target: float) -> None:
    amounts = HOURS[: len(scores)]
    needed = amount_needed(amounts, np.array(scores), target)
    curve = IsotonicRegression().fit(np.log(amounts), scores).predict(np.log(amounts))
    if needed == 0:
        assert target <= curve[0] + 1e-9
    elif math.isinf(needed):
        assert target >= curve[-1] - 1e-9
    else:
        assert np.interp(math.log(needed), np.log(amounts), curve) == pytest.approx(target, abs=1e-6)


def curves(factor: float, seeds: int, images: int, noise: float, rng: np.random.Generator, luck: float = 0) -> dict:
    """Scores that rise with the logarithm of the amount; the method's are those of `factor` times the data."""
    hard = rng.normal(size=images)  # an image is as hard for both

    def scores(hours: float) -> np.ndarray:
        of_seeds = luck * rng.normal(size=(seeds, 1))
        return 0.2 * np.log(hours) + hard + of_seeds + noise * rng.normal(size=(seeds, images))

    return {
        "amounts": HOURS,
        "reference": np.stack([scores(hours) for hours in HOURS]),
        "method": scores(factor),
        "at": 1.0,
    }


def test_the_factor_that_was_put_in_comes_out() -> None:
    worth = data_worth(**curves(3.0, seeds=3, images=400, noise=0.01, rng=np.random.default_rng(0)))
    assert worth.value == pytest.approx(3, rel=0.05)
    assert worth.interval[0] < 3 < worth.interval[1]
    assert worth.interval[1] / worth.interval[0] < 1.2
    assert (worth.least, worth.most) == (0.25, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "luck", "least", "most"),
    [(0.5, 0.0, 0.97, 1), (0.5, 0.1, 0.93, 1), (0.1, 0.1, 0.8, 0.93)],
    ids=["luck by the image", "both", "luck by the seed"],
)
def test_how_often_the_interval_covers_the_factor(noise: float, luck: float, least: float, most: float) -> None:
    """Too wide, about right, too narrow, as the docstring says, with eight seeds."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = data_worth(**curves(2.0, 8, 60, noise, rng, luck), num_resamples=400).interval
        covered += low <= 2 <= high
    assert least <= covered / 200 <= most


def test_the_same_curve_is_worth_itself() -> None:
    scores = curves(1.0, 2, 50, 0.0, np.random.default_rng(2))
    worth = data_worth(**scores)
    assert (worth.value, *worth.interval) == pytest.approx((1, 1, 1))


def test_the_order_of_images_and_seeds_changes_nothing_but_the_draws() -> None:
    scores = curves(2.0, 2, 200, 0.3, np.random.default_rng(3))
    turned = scores | {"reference": scores["reference"][:, ::-1, ::-1], "method": scores["method"][::-1, ::-1]}
    one, other = data_worth(**scores), data_worth(**turned)
    assert one.value == pytest.approx(other.value)
    assert one.interval == pytest.approx(other.interval, rel=0.2)


def test_in_words() -> None:
    assert in_words(DataWorth(1.0, 3.14, (2.4, 4.0), 0.25, 40), "pretraining") == (
        "pretraining is worth 3.1 times the data at 1 h, 95 % interval 2.4 to 4.0"
    )
    assert in_words(DataWorth(1.0, 12.4, (2.4, math.inf), 0.25, 40), "pretraining") == (
        "pretraining is worth 12 times the data at 1 h, 95 % interval 2.4 to more than 40"
    )
    assert "less than 0.25" in in_words(DataWorth(1.0, 0.0, (0.0, 1.0), 0.25, 40), "it")
