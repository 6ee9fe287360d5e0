import numpy as np
import pytest

from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.runs.rows import find_significant_differences

COLUMNS = [Column("PixCorr", "pixcorr"), Column("SwAV", "swav_distance", higher_is_better=False)]


@pytest.mark.parametrize(("shift", "expected"), [(0.2, "better"), (-0.2, "worse"), (0.0, None)])
def test_find_significant_differences(shift: float, expected: str | None) -> None:
    rng = np.random.default_rng(0)
    this_run = {name: rng.normal(size=200) for name in ("pixcorr", "swav_distance")}
    other = {name: values + rng.normal(size=200) * 0.1 for name, values in this_run.items()}
    other["pixcorr"] = other["pixcorr"] - other["pixcorr"].mean() + this_run["pixcorr"].mean() + shift
    other["swav_distance"] = (
        other["swav_distance"] - other["swav_distance"].mean() + this_run["swav_distance"].mean() - shift
    )
    differences = {} if expected is None else {"pixcorr": expected, "swav_distance": expected}
    assert find_significant_differences(other, this_run, COLUMNS, set()) == differences


def test_differences_of_hit_rates_are_newcombes() -> None:
    this_run, other = {"pixcorr": np.ones(100)}, {"pixcorr": (np.arange(100) >= 4).astype(float)}
    assert find_significant_differences(other, this_run, COLUMNS, set()) == {"pixcorr": "worse"}
    assert find_significant_differences(other, this_run, COLUMNS, {"pixcorr"}) == {}
