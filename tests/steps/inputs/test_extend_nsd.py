"""`data=nsd_tests` through the command line: a model of NSD is scored on NSD's further sessions, without refitting."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.nsd_tests import small_sessions as small

pytest.importorskip("nibabel")

SMALL = ("scale=tiny", "logger=none", "data.subjects=[1,2]", "data.trials_per_session=36", "data.voxel_counts=null")
SMALL += ("data.validation_fraction=0.2", "data.validation_images=0", "data.num_workers=0")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    folder = tmp_path / "released"
    folder.mkdir()
    small.write_nsd(tmp_path / "nsd", tmp_path)
    return folder


def test_missing_files_are_named(released: Path, tmp_path: Path, cli: CommandLine) -> None:
    where = ("data=nsd_tests", f"paths.nsd={tmp_path / 'nsd'}")
    run = ("+experiment=finetune", *SMALL, *where)
    cli.refuses(*run, says=("data=nsd_tests needs NSD's released files", "paths.data=FOLDER"))
    says = ("has no further session of subject 1", "nsdsyntheticbetas_fithrf_GLMdenoise_RR", "nsdimagerybetas")
    cli.refuses(*run, f"paths.data={released}", says=says)
    small.write_synthetic(released)
    cli.refuses(*run[:-1], f"paths.data={released}", "paths.nsd=null", says=("NSD in the working layout",))


@pytest.mark.slow
def test_a_model_of_nsd_is_scored_without_refitting(released: Path, tmp_path: Path, cli: CommandLine) -> None:
    small.write_synthetic(released)
    small.write_imagery(released)
    of_nsd = (f"paths.nsd={tmp_path / 'nsd'}", *SMALL, "data.max_repetitions=null", "data.regions=null")
    assert cli("+experiment=finetune", "data=nsd", *of_nsd, "pipeline.steps=[finetune]")[0] == 0
    trained = cli.made("finetune")
    run = ("+experiment=finetune", "data=nsd_tests", f"paths.data={released}", *of_nsd)
    run += (f"evaluate.checkpoint={trained / 'model.safetensors'}",)
    expected = {"nsd_synthetic_test": 10, "nsd_vision_test": 12, "nsd_imagery_test": 12, "new_test": 8}
    for split, images in expected.items():
        code, out, err = cli(*run, f"data.test_split={split}", "pipeline=evaluate")
        assert code == 0, err
        assert "simulated" not in out
        found = [json.loads(path.read_text()) for path in cli.outputs.glob("artifacts/evaluate/*/scores.json")]
        assert images in {len(scores["stimulus_ids"]) for scores in found}
    assert cli.made("finetune") == trained, "trained once, on NSD"
    assert len(list((cli.outputs / "artifacts/extend_nsd").glob("[!.]*"))) == 1
    assert len(list((cli.outputs / "artifacts/evaluate").glob("[!.]*"))) == len(expected)
