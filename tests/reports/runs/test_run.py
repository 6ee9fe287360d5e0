"""The folder of a run's report, and the report of a run whose files were damaged since."""

from pathlib import Path

import pytest

from mindeye_pl.config import compose_config
from mindeye_pl.reports.runs.run import _history, report_folder
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec, ArtifactStore
from mindeye_pl.store.atomic import write_json


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


@pytest.mark.parametrize("damage", ["{", "[{}]", '[{"epoch": 1}]', ""])
def test_damaged_curves_are_left_out_in_one_line(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, spec, records = ArtifactStore(tmp_path), ArtifactSpec("finetune", "subj01", {}), [{"epoch": 0, "loss": 0.5}]
    with store.making(spec) as work:
        assert work is not None
        write_json(work / "history.json", records)
    artifact = store.find(spec)
    assert artifact is not None
    assert _history(artifact) == records
    (artifact.folder / "history.json").write_text(damage)
    assert _history(artifact) == []
    assert "no training curves: " in (out := " ".join(capsys.readouterr().out.split()))
    assert "history.json is damaged" in out
    (artifact.folder / "history.json").unlink()
    assert _history(Artifact(artifact.folder, {})) == []
