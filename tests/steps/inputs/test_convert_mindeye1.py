"""`data=nsd_mindeye1` through the command line: converted once, then read like any other NSD."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import load_test_trials
from mindeye_pl.data.mindeye1.layout import MindEye1Layout
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.inputs.convert_mindeye1 import CONVERT_MINDEYE1
from mindeye_pl.steps.inputs.dataset import Images, is_simulated
from tests.conftest import CommandLine
from tests.data.small_mindeye1 import write_avg_split
from tests.steps.opened import trials

SUBJECTS = (1, 2)
SETTINGS = (
    "scale=tiny",
    "logger=none",
    "data=nsd_mindeye1",
    "data.subjects=[1,2]",
    "data.shards={train:3,val:1,test:2}",
    "data.voxel_counts=null",
    "data.trials_per_session=48",
    "data.num_workers=0",
)


@pytest.fixture(scope="module")
def source(tiny_nsd, tmp_path_factory) -> MindEye1Layout:
    return write_avg_split(DataLayout(tiny_nsd), SUBJECTS, tmp_path_factory.mktemp("mindeye1"))


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration of `SETTINGS`, composed once."""
    GlobalHydra.instance().clear()
    return compose_config(list(SETTINGS))


@pytest.fixture
def run_of(composed: DictConfig, tmp_path: Path) -> Callable[..., Run]:
    """A run on the shards in a folder, with other values of some options of `data`."""

    def run_of(source_dir: Path, **data: object) -> Run:
        config = composed.copy()
        config.paths.outputs, config.paths.nsd = str(tmp_path / "outputs"), str(source_dir)
        for option, value in data.items():
            config.data[option] = value
        return Run(config)

    return run_of


def test_it_is_converted_once_and_read_by_every_step(source: MindEye1Layout, tiny_nsd: Path, run_of, tmp_path) -> None:
    run = run_of(source.source_dir, sampling="by_image", num_sessions="all")
    data, known = trials(run, [1], batch_size=run.config.finetune.batch_size), DataLayout(tiny_nsd)
    assert run.made == ["convert_mindeye1"]
    manifest = run.make(CONVERT_MINDEYE1).manifest
    assert set(manifest["sha256"]) == set(manifest["files"]) >= {"coco_images_224_float16.hdf5"}
    assert "progress.json" not in manifest["files"]
    assert manifest["facts"]["subj01"]["voxels"] == betas_shape(known, 1)[1]
    tested = load_test_trials(known, 1, "new_test", tmp_path / "cache").stimulus_ids
    assert data.test_set(1).stimulus_ids.tolist() == np.unique(tested).tolist()
    assert len(data.train_sampler()) == len(set(data.train_trials[0].stimulus_ids)) // run.config.finetune.batch_size
    again = run_of(source.source_dir, sampling="published")
    root = run.open(Images()).layout.root
    assert again.open(Images()).layout.root == root
    assert again.made == []
    assert not is_simulated(again.config)
    assert again.spec(FINETUNE).inputs["data.made"] == run.spec(CONVERT_MINDEYE1).fingerprint
    by_its_folder = run_of(source.source_dir, source="nsd", root=str(root))
    assert trials(by_its_folder, [1]).test_set(1).voxels.equal(data.test_set(1).voxels)
    assert by_its_folder.made == []


def test_other_files_and_other_settings_are_another_conversion(source: MindEye1Layout, run_of, tmp_path: Path) -> None:
    def fingerprint(source_dir: Path = source.source_dir, **data: object) -> str:
        return run_of(source_dir, **data).spec(CONVERT_MINDEYE1).fingerprint

    first = fingerprint()
    others = [fingerprint(subjects=[1]), fingerprint(repeated_slots="trial"), fingerprint(first_trial=1)]
    assert len({first, *others}) == 4
    for same in ({"num_sessions": 2}, {"voxel_counts": {1: 40}}, {"subject": 2}):
        assert fingerprint(**same) == first
    shutil.copytree(source.source_dir, tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == first
    (_, path) = next(MindEye1Layout(tmp_path / "moved", source.shards).shards_of(2))
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    assert fingerprint(tmp_path / "moved") != first


def test_options_without_meaning_for_mindeye1_are_refused(source: MindEye1Layout, run_of) -> None:
    for data, says in (
        ({"test_split": "new_test"}, r"one test set .got: new_test; expected: test\)"),
        ({"split": "cluster_k5_0"}, r"data\.split.*got: cluster_k5_0; expected: standard\)"),
        ({"shards": None}, r"data are not MindEye1.s files .*Fix: data=nsd_mindeye1"),
        ({"voxel_counts": {1: 15724}}, r"unexpected number of voxels .*expected: \(3, 15724\)"),
    ):
        with pytest.raises(UserError, match=says):
            run_of(source.source_dir, **data).make(CONVERT_MINDEYE1)


@pytest.mark.slow
def test_an_experiment_trains_and_scores_on_it(source: MindEye1Layout, cli: CommandLine) -> None:
    command = ("+experiment=finetune_subj01_1h", *SETTINGS, f"paths.nsd={source.source_dir}", "unclip=none")
    code, _, err = cli(*command, "pipeline.steps=[finetune,evaluate]", "data.sampling=by_image")
    assert code == 0, err
    (scored,) = (cli.outputs / "artifacts" / "evaluate").glob("[!.]*")
    assert json.loads((scored / "manifest.json").read_text())["label"].startswith("subj01")


@pytest.mark.slow
def test_missing_inputs_are_named_with_their_commands(source: MindEye1Layout, cli: CommandLine, monkeypatch) -> None:
    monkeypatch.delenv("NSD_PATH", raising=False)
    convert, here = ("pipeline=convert_mindeye1", *SETTINGS), f"paths.nsd={source.source_dir}"
    cli.refuses(*convert, says=("MindEye1's files of NSD", "paths.nsd=FOLDER"))
    fetch = "hf download pscotti/naturalscenesdataset webdataset_avg_split/train/train_subj07_0.tar --repo-type dataset"
    cli.refuses(*convert, here, "data.subjects=[1,2,7]", says=("6 shards", fetch))
    cli.refuses(*convert, here, "data.subjects=[1,3]", says=("four subjects", "got: subject 3", "data.subjects=[1]"))
    code, out, err = cli(*convert, here, "plan=true")
    assert code == 0, err
    assert "convert_mindeye1" in out
    assert "will run" in out
