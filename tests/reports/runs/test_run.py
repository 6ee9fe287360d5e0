"""The folder of a run's report."""

from pathlib import Path

import pytest

from mindeye_pl.config import compose_config
from mindeye_pl.reports.runs.run import report_folder


@pytest.mark.parametrize(
    ("experiment", "overrides", "job", "expected"),
    [
        ("finetune", ["data.subject=2"], None, "finetune_subj02"),
        ("adhoc", ["data.subject=2", "data.num_sessions=all"], None, "adhoc_subj02_all"),
        ("sweeps/seeds", [], 3, "sweeps/seeds/jobs/3"),
        ("../../evil", [], None, "unnamed/unnamed/evil"),
        ("/evil", ["data.subject=2"], None, "unnamed/evil_subj02"),
    ],
)
def test_a_report_lies_below_its_folder(
    experiment: str, overrides: list[str], job: int | None, expected: str, tmp_path: Path
) -> None:
    config = compose_config(["scale=tiny", f"paths.reports={tmp_path}", *overrides])
    assert report_folder(config, experiment, overrides, job) == tmp_path / expected
