"""The choice of a budget from validation scores that are written here, and from one tiny sweep."""

import json
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import VALIDATION_COLUMNS
from mindeye_pl.reports.sweeps.choice import choose
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import Cell, cells_of
from mindeye_pl.store.manifest import write_manifest
from tests.conftest import CommandLine

RETRIEVAL, _, LOSS = VALIDATION_COLUMNS
STEPS = "finetune.max_steps"


def cells(folder: Path, rates: dict[tuple[str, str], float | None]) -> list[Cell]:
    """Cells of jobs by hours and steps; those without a rate have failed."""
    jobs = []
    for (hours, steps), rate in rates.items():
        job = Job(len(jobs), [f"data.num_sessions={hours}", f"{STEPS}={steps}"], status="failed", error="no room")
        if rate is not None:
            artifact = folder / f"finetune{len(jobs)}"
            artifact.mkdir()
            scores = [Score("validation_image_retrieval", rate, 0.02, 50, 50)]
            scores.append(Score("validation_loss", 10 - rate, None, None, 50, higher_is_better=False))
            content = {"epoch": 20, "scores": [score.to_dict() for score in scores]}
            (artifact / "validation.json").write_text(json.dumps(content))
            (artifact / "trained_parameters.json").write_text("{}")
            named = {"step": "finetune", "label": "subj01", "fingerprint": "0" * 64, "version": 1, "inputs": {}}
            write_manifest(artifact, schema=3, determined_by={}, seconds=30.0, **named)
            job.status, job.error, job.artifacts = "finished", None, {"finetune": str(artifact)}
        jobs.append(job)
    return cells_of(jobs)


RATES: dict[tuple[str, str], float | None] = {
    **{("0.25", "100"): 0.30, ("0.25", "200"): 0.50, ("0.25", "400"): 0.46},
    **{("all", "100"): 0.60, ("all", "200"): 0.70, ("all", "400"): 0.76},
}


def test_the_first_budget_near_the_best_is_chosen(tmp_path: Path) -> None:
    sentence = choose(cells(tmp_path, RATES), STEPS, RETRIEVAL, 0.02)
    assert sentence == (
        "By mean validation image retrieval over 2 settings (100 steps 45 %, 200 steps 60 %, 400 steps 61 %), "
        "finetune.max_steps=200 is chosen: the first within 2 points of the best."
    )


def test_a_smaller_tolerance_and_a_score_that_is_better_where_it_is_lower(tmp_path: Path) -> None:
    found = cells(tmp_path, RATES)
    assert "max_steps=400 is chosen" in choose(found, STEPS, RETRIEVAL, 0.005)
    assert "max_steps=400 is chosen: the first within 0 of the best" in choose(found, STEPS, LOSS, 0)


def test_settings_that_lack_a_value_do_not_count(tmp_path: Path) -> None:
    sentence = choose(cells(tmp_path, RATES | {("all", "100"): None}), STEPS, RETRIEVAL, 0.02)
    assert "over 1 settings (100 steps 30 %, 200 steps 50 %, 400 steps 46 %)" in sentence


def test_nothing_to_choose_from(tmp_path: Path) -> None:
    rates = {("1", "100"): 0.3, ("1", "200"): None}
    with pytest.raises(UserError, match="no setting has validation_image_retrieval"):
        choose(cells(tmp_path, rates), STEPS, RETRIEVAL, 0.02)
    with pytest.raises(UserError, match=r"sweep\.choose is not swept"):
        choose(cells(tmp_path / "finetune0", {("1", "1"): None, ("2", "1"): None}), STEPS, RETRIEVAL, 0.02)


@pytest.mark.slow
def test_a_search_on_validation_images(cli: CommandLine) -> None:
    few = ("data.num_sessions=0.5,1", "finetune.start=scratch", "data.validation_images=6")
    code, out, err = cli("-m", "+experiment=sweeps/budget", "scale=tiny", "logger=none", *few)
    assert code == 0, err
    assert "finetune.max_steps=" in out
    assert " is chosen: the first within 2 points of the best." in " ".join(out.split())
    assert not (cli.outputs / "artifacts" / "evaluate").exists(), "no test image is read"
