import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from mindeye_pl.metrics.statistics.data_worth import COVERAGE, DataWorth, amount_needed, data_worth, format_data_worth

HOURS = [0.25, 0.5, 1.0, 2.0, 4.0]


def test_curve_is_interpolated_over_the_logarithm() -> None:
    assert amount_needed([1, 4], np.array([0.0, 1.0]), 0.5) == pytest.approx(2)
    assert amount_needed([1, 2, 8], np.array([0.0, 0.4, 0.8]), 0.6) == pytest.approx(4)


def test_score_on_the_curve_needs_its_amount() -> None:
    scores = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    for amount, score in zip(HOURS, scores, strict=True):
        assert amount_needed(HOURS, scores, score) == amount


def test_scores_outside_the_curve_need_zero_or_infinity() -> None:
    assert amount_needed(HOURS, np.linspace(0.2, 0.8, 5), 0.81) == math.inf
    assert amount_needed(HOURS, np.linspace(0.2, 0.8, 5), 0.19) == 0


@given(scores=st.lists(st.floats(0, 1), min_size=2, max_size=5), target=st.floats(0, 1))
def test_curve_equals_isotonic_regression(scores: list[float], target: float) -> None:
    amounts = HOURS[: len(scores)]
    needed = amount_needed(amounts, np.array(scores), target)
    curve = IsotonicRegression().fit(np.log(amounts), scores).predict(np.log(amounts))
    if needed == 0:
        assert target <= curve[0] + 1e-9
    elif math.isinf(needed):
        assert target >= curve[-1] - 1e-9
    else:
        assert np.interp(math.log(needed), np.log(amounts), curve) == pytest.approx(target, abs=1e-6)


def curves(
    factor: float,
    seeds: int,
    images: int,
    noise: float,
    rng: np.random.Generator,
    seed_noise: float = 0,
    hits: bool = False,
) -> dict:
    """Draw scores that grow with the logarithm of the amount; the method's equal those of `factor` times the data."""
    hard = rng.normal(size=images)  # an image is equally hard for both

    def scores(hours: float) -> np.ndarray:
        offsets = seed_noise * rng.normal(size=(seeds, 1))
        values = 0.2 * np.log(hours) + hard + offsets + noise * rng.normal(size=(seeds, images))
        return (values > -2.2).astype(float) if hits else values

    return {
        "amounts": HOURS,
        "reference": np.stack([scores(hours) for hours in HOURS]),
        "method": scores(factor),
        "at": 1.0,
        "hits": hits,
    }


def test_data_worth_recovers_the_true_factor() -> None:
    worth = data_worth(**curves(3.0, seeds=3, images=400, noise=0.01, rng=np.random.default_rng(0)))
    assert worth.value == pytest.approx(3, rel=0.05)
    assert worth.interval is not None
    assert worth.interval[0] < 3 < worth.interval[1]
    assert worth.interval[1] / worth.interval[0] < 1.2
    assert (worth.least, worth.most, worth.num_seeds) == (0.25, 4, 3)


def covered(seeds: int, num_sets: int, noise: float, seed_noise: float, images: int = 60, hits: bool = False) -> float:
    """Return the coverage over simulated sweeps in which the method is worth twice the data."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(num_sets):
        interval = data_worth(**curves(2.0, seeds, images, noise, rng, seed_noise, hits)).interval
        assert interval is not None
        held += interval[0] <= 2 <= interval[1]
    return held / num_sets


#: Noise of the simulated sweeps: of an image and a seed, of a seed; images; whether scores are hits, at a rate of 0.97.
NOISES = {
    "image": (0.5, 0.0, 60, False),
    "both": (0.5, 0.1, 60, False),
    "seed": (0.1, 0.1, 60, False),
    "hits": (0.5, 0.1, 300, True),
}


def test_coverage_with_three_seeds() -> None:
    assert covered(3, 60, 0.1, 0.1, images=20) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("seeds", COVERAGE)
@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_coverage_is_at_least_the_stated_one(seeds: int, noise: tuple[float, float, int, bool]) -> None:
    measured, num_sets = covered(seeds, 200, *noise), 200
    error = math.sqrt(COVERAGE[seeds] * (1 - COVERAGE[seeds]) / num_sets)
    assert measured >= COVERAGE[seeds] - 3 * error


def test_stated_coverage_is_of_the_seeds_in_use() -> None:
    def stated(seeds: int) -> float:
        return DataWorth(1.0, 1.0, (1.0, 1.0), seeds, 0.25, 4).coverage

    assert [stated(seeds) for seeds in COVERAGE] == list(COVERAGE.values())
    assert stated(max(COVERAGE) + 7) == COVERAGE[max(COVERAGE)]


def test_data_worth_of_the_same_curve_is_one() -> None:
    scores = curves(1.0, 3, 50, 0.0, np.random.default_rng(2))
    worth = data_worth(**scores)
    assert worth.interval is not None
    assert (worth.value, *worth.interval) == pytest.approx((1, 1, 1))


def test_data_worth_does_not_depend_on_order() -> None:
    scores = curves(2.0, 3, 200, 0.3, np.random.default_rng(3))
    turned = scores | {"reference": scores["reference"][:, ::-1, ::-1], "method": scores["method"][::-1, ::-1]}
    one, other = data_worth(**scores), data_worth(**turned)
    assert one.value == pytest.approx(other.value)
    assert one.interval == pytest.approx(other.interval)


@pytest.mark.parametrize(("shift", "interval"), [(9.0, (math.inf, math.inf)), (-9.0, (0.0, 0.0))])
def test_scores_off_the_curve_have_open_intervals(shift: float, interval: tuple[float, float]) -> None:
    scores = curves(2.0, 3, 50, 0.1, np.random.default_rng(4))
    worth = data_worth(**scores | {"method": scores["method"] + shift})
    assert worth.interval == interval
    assert worth.value == interval[0]


def test_the_interval_is_open_where_the_curve_ends_too_early() -> None:
    worth = data_worth(**curves(4.0, 3, 100, 0.1, np.random.default_rng(5)))
    assert worth.interval is not None
    assert 0 < worth.interval[0] < 4
    assert worth.interval[1] == math.inf


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_interval(seeds: int) -> None:
    worth = data_worth(**curves(2.0, seeds, 50, 0.0, np.random.default_rng(6)))
    assert worth.interval is None
    assert worth.value == pytest.approx(2)
    said = format_data_worth(worth, "it")
    assert said.startswith("it is worth 2.0 times the data at 1 h (")
    assert said.endswith(f"{seeds} seed{'s' * (seeds > 1)}: without an interval, which needs at least 3)")


def test_format_data_worth() -> None:
    assert format_data_worth(DataWorth(1.0, 3.14, (2.4, 4.0), 3, 0.25, 40), "pretraining") == (
        "pretraining is worth 3.1 times the data at 1 h, 95 % interval 2.4 to 4.0 "
        f"(3 seeds; it covers the truth in at least {100 * COVERAGE[3]:.0f} % of simulated sweeps)"
    )
    assert "12 times the data at 1 h, 95 % interval 2.4 to more than 40 (" in format_data_worth(
        DataWorth(1.0, 12.4, (2.4, math.inf), 3, 0.25, 40), "pretraining"
    )
    assert "less than 0.25" in format_data_worth(DataWorth(1.0, 0.0, (0.0, 1.0), 3, 0.25, 40), "it")
