"""The inventory of a folder: what is there, what is missing, what is damaged, and the next command."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.inventory import take_inventory
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import load_test_trials, load_training_trials
from tests.conftest import CommandLine
from tests.data.own.made_study import write_study
from tests.data.small_mindeye1 import write_avg_split
from tests.data.small_nsd_release import write_release


@pytest.fixture
def folder(tiny_nsd: Path, tmp_path: Path) -> Path:
    """Copy of a simulated dataset, to be damaged."""
    return Path(shutil.copytree(tiny_nsd, tmp_path / "data"))


def test_facts_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    layout = DataLayout(folder)
    found = take_inventory(folder, tmp_path / "cache", None, "data=prepared paths.data=X")
    assert found is not None
    assert {part.state for part in found.parts} == {"present"}
    assert [facts.name for facts in found.subjects] == [f"subj{subject:02d}" for subject in layout.subjects()]
    facts = found.subjects[0]
    training = load_training_trials(layout, 1, "all", tmp_path / "cache")
    tested = load_test_trials(layout, 1, "new_test", tmp_path / "cache")
    assert facts.training == (len(training), len(set(training.stimulus_ids.tolist())))
    assert facts.tested == (len(tested), len(set(tested.stimulus_ids.tolist())))
    assert facts.sessions == training.sessions.max()
    assert max(map(abs, facts.mean)) < 0.1
    assert 0.8 < facts.deviation[0] <= facts.deviation[1] < 1.2
    assert not found.remarks


def test_what_is_there_and_what_is_missing(cli: CommandLine, folder: Path) -> None:
    (folder / "captions.json").unlink()
    shutil.rmtree(folder / "wds" / "subj02" / "new_test")
    shutil.rmtree(folder / "wds" / "subj02" / "test")
    code, out, _ = cli("pipeline=check_data", f"paths.data={folder}")
    assert code == 0
    states = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "present" in states["subj01: test trials"]
    assert "missing" in states["subj02: test trials"]
    assert "missing" in states["captions"]
    assert "ready: subj01, subj05, subj07" in out
    assert f"data=prepared paths.data={folder} data.subjects=[1,5,7] data.subject=1 pretrain.subjects=[5,7]" in out


def test_the_command_that_comes_next_is_one(cli: CommandLine, folder: Path) -> None:
    out = cli("pipeline=check_data", f"paths.data={folder}")[1]
    command = out.splitlines()[-1].removeprefix("next: python -m mindeye_pl ").split()
    code, plan, _ = cli(*command, "scale=tiny", "plan=true")
    assert code == 0
    assert "finetune" in plan


def _scale(folder: Path) -> None:
    with h5py.File(DataLayout(folder).betas(1), "r+") as file:
        file["betas"][:] = 3 * file["betas"][:] + 2


def test_betas_that_are_not_z_scores_are_remarked(cli: CommandLine, folder: Path) -> None:
    _scale(folder)
    code, out, _ = cli("pipeline=check_data", f"paths.data={folder}")
    assert code == 0
    assert "betas of subj01 are not z-scored within sessions: data.betas=zscore_train_sessions scales them" in out


def test_other_voxels_than_nsd_has_are_noted(cli: CommandLine, folder: Path) -> None:
    out = cli("pipeline=check_data", "data=nsd", f"paths.nsd={folder}")[1]
    assert "15,724 voxels are expected" in " ".join(out.split())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _blacken(folder: Path) -> None:
    with h5py.File(DataLayout(folder).stimuli, "r+") as file:
        file["images"][:] = 0


def _make_infinite(folder: Path) -> None:
    with h5py.File(DataLayout(folder).betas(1), "r+") as file:
        file["betas"][:] = np.inf


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: _cut(DataLayout(folder).betas(1)), ("subj01: betas: ", "truncated")),
        (lambda folder: _cut(DataLayout(folder).stimuli), ("images: ", "truncated")),
        (lambda folder: _cut(DataLayout(folder).shard(1, "train")), ("subj01: trials: ", "0.tar")),
        (_blacken, ("no pixels of an image that was shown",)),
        (_make_infinite, ("a beta is not finite",)),
        (lambda folder: (folder / "captions.json").write_text("[[]]"), ("captions: ", "another number of images")),
        (lambda folder: _cut(DataLayout(folder).region_masks), ("region masks: ", "truncated")),
        (lambda folder: _cut(DataLayout(folder).brain_mask(1)), ("voxel positions: ", "truncated or no NIfTI")),
    ],
    ids=["betas", "images", "shard", "black", "infinite", "captions", "masks", "positions"],
)
def test_damaged_files_are_named(cli: CommandLine, folder: Path, damage: object, says: tuple[str, ...]) -> None:
    damage(folder)  # type: ignore[operator]
    cli.refuses("pipeline=check_data", f"paths.data={folder}", says=says)


def test_shards_of_mindeye1(cli: CommandLine, tiny_nsd: Path, tmp_path: Path) -> None:
    layout = write_avg_split(DataLayout(tiny_nsd), [1], tmp_path)
    here = sum(path.is_file() for split, path in layout.shards_of(1) if split == "train")
    code, out, _ = cli("pipeline=check_data", f"paths.data={tmp_path}")
    assert code == 0
    assert "MindEye1's preparation of NSD" in out
    assert f"{here} of 18" in " ".join(out.split())
    assert "next: hf download pscotti/naturalscenesdataset webdataset_avg_split/" in out


def test_nsd_as_it_is_released(cli: CommandLine, tiny_nsd: Path, tmp_path: Path) -> None:
    release = write_release(DataLayout(tiny_nsd), (1, 2), tmp_path / "nsd")
    code, out, _ = cli("pipeline=check_data", f"paths.nsd={release.root}")
    assert code == 0
    assert "NSD's own release, betas_fithrf_GLMdenoise_RR" in out
    command = "pipeline=prepare_nsd data=nsd_release data.beta_version=betas_fithrf_GLMdenoise_RR data.subjects=[1,2]"
    assert f"next: python -m mindeye_pl {command} paths.nsd={release.root}" in out
    release.responses(2).unlink()
    out = cli("pipeline=check_data", f"paths.nsd={release.root}")[1]
    assert (
        "next: aws s3 cp --no-sign-request s3://natural-scenes-dataset/nsddata/ppdata/subj02/behav/responses.tsv" in out
    )
    assert "data.subjects=[1] " in out
    release.betas(1, 1).write_text("no volume")
    says = ("subj01: betas: ", "truncated")
    cli.refuses("pipeline=check_data", f"paths.nsd={release.root}", says=says)


def test_own_recordings(cli: CommandLine, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, num_images=16, sessions=2, num_voxels=30)
    code, out, _ = cli("pipeline=check_data", f"paths.data={study}")
    assert code == 0
    assert "sub-01: 2 sessions, 32 trials of 16 images, " in out
    assert f"next: python -m mindeye_pl +experiment=finetune_own own.path={study}" in out
    next(study.rglob("*events.tsv")).write_text("onset\tduration\n0\t1\n")
    cli.refuses("pipeline=check_data", f"paths.data={study}", says=("stim_file",))


def test_unknown_folders_are_refused(cli: CommandLine, tmp_path: Path) -> None:
    cli.refuses("pipeline=check_data", says=("needs a folder", "paths.data=FOLDER"))
    cli.refuses("pipeline=check_data", "paths.data=nowhere", says=("paths.data is no folder",))
    cli.refuses("pipeline=check_data", f"paths.data={tmp_path}", says=("no layout of brain data that is known",))
