"""`data=nsd_release` through the command line: prepared once, then read like any other NSD."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.dataset import Images, is_simulated
from mindeye_pl.steps.inputs.prepare_nsd import PREPARE_NSD
from tests.conftest import CommandLine
from tests.data.small_nsd_release import AFFINE, SHAPE, SmallRelease, write_nifti, write_release
from tests.steps.opened import trials

SETTINGS = (
    *("scale=tiny", "logger=none", "data=nsd_release", "data.subjects=[1,2]"),
    *("data.trials_per_session=48", "data.num_workers=0"),
)


@pytest.fixture(scope="module")
def release(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    pytest.importorskip("nibabel")
    return write_release(DataLayout(tiny_nsd), (1, 2), tmp_path_factory.mktemp("release"), ("hdf5", "nii.gz"))


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    GlobalHydra.instance().clear()
    return compose_config(list(SETTINGS))


@pytest.fixture
def run_of(composed: DictConfig, tmp_path: Path) -> Callable[..., Run]:
    """A run on the release in a folder, with other values of some options of `data`."""

    def run_of(source_dir: Path, **data: object) -> Run:
        config = composed.copy()
        config.paths.outputs, config.paths.nsd = str(tmp_path / "outputs"), str(source_dir)
        for option, value in data.items():
            config.data[option] = value
        return Run(config)

    return run_of


def test_it_is_prepared_once_and_read_by_every_step(release: SmallRelease, tiny_nsd: Path, run_of) -> None:
    run = run_of(release.root, num_sessions="all")
    data = trials(run, [1, 2])
    assert run.made == ["prepare_nsd"]
    manifest = run.make(PREPARE_NSD).manifest
    assert set(manifest["sha256"]) == set(manifest["files"])
    assert "progress.json" not in manifest["files"]
    assert manifest["facts"]["subj01"] == {"sessions": 4, "trials": 192, "voxels": 40, "constant_in_a_session": 0}
    known = trials(run_of(tiny_nsd, source="nsd", root=str(tiny_nsd), num_sessions="all"), [1, 2])
    for subject in (1, 2):
        found, expected = data.test_set(subject), known.test_set(subject)
        assert found.stimulus_ids.equal(expected.stimulus_ids)
        np.testing.assert_allclose(found.voxels, expected.voxels, atol=4e-3)
    again = run_of(release.root, zscore_sessions=[1])
    assert again.open(Images()).layout.root == run.open(Images()).layout.root
    assert again.made == []
    assert not is_simulated(again.config)


def test_other_files_and_other_settings_are_another_preparation(release: SmallRelease, run_of, tmp_path: Path) -> None:
    def fingerprint(source_dir: Path = release.root, **data: object) -> str:
        return run_of(source_dir, **data).spec(PREPARE_NSD).fingerprint

    mask = tmp_path / "one.nii.gz"
    write_nifti(mask, np.ones(SHAPE, np.uint8))
    others = [{"subjects": [1]}, {"zscore": "none"}, {"mask": "all_finite"}, {"mask": [str(mask)]}, {"max_sessions": 2}]
    found = [fingerprint(**other) for other in ({}, *others)]
    assert len(set(found)) == len(found)
    assert fingerprint(num_workers=3, subject=2, num_sessions=2) == found[0]
    copy = shutil.copy(mask, tmp_path / "same.nii.gz")
    assert fingerprint(mask=[str(copy)]) == fingerprint(mask=str(mask)) == found[4]
    shutil.copytree(release.root, tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == found[0]
    moved = SmallRelease(tmp_path / "moved")
    (moved.subject(1) / "unread.txt").write_text("unread")
    assert fingerprint(moved.root) == found[0]
    path = moved.betas(2, 3)
    path = path if path.is_file() else moved.betas(2, 3, "hdf5")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert fingerprint(moved.root) != found[0]


def test_other_data_are_refused(release: SmallRelease, run_of) -> None:
    for null in ("zscore", "mask"):
        with pytest.raises(UserError, match=f"data.{null} is null"):
            run_of(release.root, **{null: None}).make(PREPARE_NSD)
    with pytest.raises(UserError, match=r"data are not NSD's release .*Fix: data=nsd_release"):
        run_of(release.root, beta_version=None).make(PREPARE_NSD)


@pytest.mark.slow
def test_mistakes_are_one_line(release: SmallRelease, cli: CommandLine, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NSD_PATH", raising=False)
    prepare, here = ("pipeline=prepare_nsd", *SETTINGS), f"paths.nsd={release.root}"
    cli.refuses(*prepare, says=("NSD's release", "paths.nsd=FOLDER"))
    cli.refuses(*prepare, here, "data.subjects=[1,3]", says=("subj03/behav/responses.tsv is missing", "aws s3 cp"))
    cli.refuses(*prepare, here, "data.zscore=per_run", says=("data.zscore", "exclude_shared1000"))
    cli.refuses(*prepare, here, "data.mask=[]", says=("data.mask", "not empty"))
    broken = SmallRelease(tmp_path / "broken")
    shutil.copytree(release.root, broken.root)
    broken.betas(1, 1).write_bytes(broken.betas(1, 1).read_bytes()[:3000])
    cli.refuses(*prepare, f"paths.nsd={broken.root}", says=("betas_session01.nii.gz is truncated",))
    assert not cli.artifacts()
    affine = AFFINE.copy()
    affine[1, 3] -= 1
    write_nifti(broken.roi(1, "nsdgeneral"), nibabel.load(release.roi(1, "nsdgeneral")).get_fdata(), affine)
    cli.refuses(*prepare, f"paths.nsd={broken.root}", says=("another affine than",))
    code, out, err = cli(*prepare, here, "plan=true")
    assert code == 0, err
    assert "will run" in out
