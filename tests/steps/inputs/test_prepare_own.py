"""`data=own` through the command line: from a laboratory's files to the report."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.inputs.prepare_own import PREPARE_OWN
from tests.conftest import CommandLine
from tests.data.own.made_study import write_scanner_study, write_study

TINY = ("scale=tiny", "logger=none", "own.image_size=32")


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Run]:
    """A run of `finetune_own` on a study."""

    def run_of(study: Path, *more: str) -> Run:
        GlobalHydra.instance().clear()
        command = ["+experiment=finetune_own", *TINY, f"own.path={study}", f"paths.outputs={tmp_path / 'outputs'}"]
        return Run(compose_config([*command, *more]))

    return run_of


def test_subjects_are_those_of_the_folder(tmp_path: Path, run_of) -> None:
    write_study(tmp_path / "study", num_images=8, subjects=("7", "12", "A"))
    config = run_of(tmp_path / "study").config
    assert dict(config.data.labels) == {1: "7", 2: "12", 3: "A"}
    assert list(config.data.subjects) == [1, 2, 3]
    assert list(config.pretrain.subjects) == [2, 3]
    assert config.finetune.start == "pretrained"
    one = run_of(tmp_path / "nowhere").config
    assert (list(one.data.subjects), one.finetune.start) == ([1], "scratch")


def test_what_is_prepared_again(tmp_path: Path, run_of) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=8)

    def fingerprint(*more: str, path: Path = study) -> str:
        return run_of(path, *more).spec(PREPARE_OWN).fingerprint

    first = fingerprint()
    assert first == fingerprint("finetune.epochs=3", "data.validation_images=2")
    changed = [fingerprint(one) for one in ("own.split=held_out", "own.zscore=none", "own.squaring=stretch")]
    (study / "notes.txt").write_text("other files are not read")
    assert first == fingerprint()
    study.rename(tmp_path / "moved")
    study = tmp_path / "moved"
    assert first == fingerprint(path=study)
    events = next(study.glob("*events.tsv"))
    events.write_text(events.read_text().replace("8.0\t3.0", "8.0\t2.0"))
    changed.append(fingerprint(path=study))
    image = next((study / "stimuli").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    changed.append(fingerprint(path=study))
    assert len({first, *changed}) == 6


def test_the_data_card_says_what_was_found(tmp_path: Path, cli: CommandLine) -> None:
    write_study(tmp_path / "study", num_images=12, sessions=2, num_voxels=30, bad_fraction=0.2)
    code, out, err = cli("data=own", "pipeline=prepare_own", f"own.path={tmp_path / 'study'}", *TINY)
    assert code == 0, err
    assert "24 voxels (2 not finite and 4 constant ones dropped)" in " ".join(out.split())
    reports = cli.outputs / "reports" / "adhoc"
    page = (reports / "data_card.html").read_text()
    for words in ("1 subject, 24 trials of 12 images", "sub-01", "Reliability in the volume", "0000.png", "ses-02"):
        assert words in page
    assert 'href="data_card.html"' in (reports / "index.html").read_text()
    assert "<script" in page
    assert not re.search(r'src="(?!data:)', page), "nothing is loaded"


def test_without_repetitions_the_card_says_that_reliability_is_not_known(tmp_path: Path, cli: CommandLine) -> None:
    write_study(tmp_path / "study", num_images=12, repetitions=1)
    assert cli("data=own", "pipeline=prepare_own", f"own.path={tmp_path / 'study'}", *TINY)[0] == 0
    page = (cli.outputs / "reports" / "adhoc" / "data_card.html").read_text()
    assert "No image was presented twice" in page
    assert "Reliability in the volume" not in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "design"),
    [
        ("no repetitions", {"num_images": 40, "repetitions": 1}),
        ("one session of 200 trials", {"num_images": 100, "repetitions": 2}),
        ("two subjects", {"num_images": 30, "subjects": ("01", "02")}),
    ],
)
def test_small_studies_reach_the_report(tmp_path: Path, cli: CommandLine, what: str, design: dict) -> None:
    write_study(tmp_path / "study", **design)
    code, _, err = cli("+experiment=finetune_own", f"own.path={tmp_path / 'study'}", *TINY)
    assert code == 0, f"{what}: {err}"
    assert (cli.outputs / "reports" / "finetune_own" / "data_card.html").is_file()
    assert (cli.outputs / "artifacts" / "pretrain").is_dir() == ("subjects" in design)
    assert (DataLayout(cli.made("prepare_own")).ncsnr.is_file()) == (design.get("repetitions") != 1)


def scores(cli: CommandLine) -> dict[str, dict[str, dict]]:
    rows = json.loads((cli.made("evaluate") / "scores.json").read_text())["rows"]
    return {line: {score["name"]: score for score in row} for line, row in rows.items()}


@pytest.mark.slow
def test_a_scanner_study_from_its_files_to_the_report(tmp_path: Path, cli: CommandLine) -> None:
    study = tmp_path / "study"
    study.mkdir()
    true = write_scanner_study(study, num_images=150, repetitions=2, num_voxels=2000, noise_level=1.0)
    code, _, err = cli("+experiment=finetune_own", f"own.path={study}", "logger=none")
    assert code == 0, err
    layout = DataLayout(cli.made("prepare_own"))
    assert betas_shape(layout, 1) == (300, 1920)
    estimated, true = read_ncsnr(layout, 1), true[~np.isnan(true)]
    assert np.median(estimated) == pytest.approx(np.median(true), rel=0.1)
    assert np.corrcoef(np.log(estimated + 0.1), np.log(true + 0.1))[0, 1] > 0.8
    rows = scores(cli)
    for name in ("image_retrieval", "brain_retrieval"):
        assert rows["model"][name]["value"] > rows["shuffled"][name]["interval"][1]
        assert rows["model"][name]["interval"][0] > rows["model"][name]["chance"]
    assert (cli.outputs / "reports" / "finetune_own" / "index.html").is_file()
