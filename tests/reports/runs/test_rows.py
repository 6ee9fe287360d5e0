import numpy as np
import pytest

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.runs.rows import About, find_significant_differences, retrieval_columns

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


@pytest.mark.parametrize(("names", "image", "brain"), [("published", "bwd", "fwd"), ("corrected", "fwd", "bwd")])
def test_retrieval_columns_explain_the_papers_labels(names: str, image: str, brain: str) -> None:
    scores = [
        Score(f"{direction}_retrieval{suffix}", 0.5, 1 / 300, 300, 1000)
        for suffix in ("", "_full")
        for direction in ("image", "brain")
    ]
    about = About(1, 1, simulated=False, published=True, names=names, top_k=(1,))
    first, second = retrieval_columns(scores, about)
    assert first.question.startswith(f'Given a brain, which image was seen? "{image}"')
    assert first.question.endswith('"Brain retrieval" in its tables.')
    assert second.question.startswith(f'Given an image, which brain saw it? "{brain}"')
    assert second.question.endswith('"Image retrieval" in its tables.')
    shown = {row.name: row for row in about.published_rows([first, second])}
    assert shown["MindEye2"].score("brain_retrieval").value == pytest.approx(0.9396)  # type: ignore[union-attr]


def test_differences_of_hit_rates_are_newcombes() -> None:
    this_run, other = {"pixcorr": np.ones(100)}, {"pixcorr": (np.arange(100) >= 4).astype(float)}
    assert find_significant_differences(other, this_run, COLUMNS, set()) == {"pixcorr": "worse"}
    assert find_significant_differences(other, this_run, COLUMNS, {"pixcorr"}) == {}
