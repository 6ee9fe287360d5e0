"""The prepared files against the world that the release was written from, and a second implementation."""

import json
from pathlib import Path
from unittest.mock import patch

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image
from sklearn.preprocessing import StandardScaler

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.nsd import preparation
from mindeye_pl.data.nsd.inspection import PreparationSettings
from mindeye_pl.data.nsd.preparation import prepare_nsd
from mindeye_pl.data.nsd.release import NsdRelease
from mindeye_pl.store.fingerprint import fingerprint_folder
from tests.data.nsd.conftest import SUBJECTS
from tests.data.simulated.small_world import betas, read_shard
from tests.data.small_nsd_release import (
    SHAPE,
    SmallRelease,
    voxel_coordinates,
    world_trials,
    write_captions,
    write_nifti,
    write_release,
)

TRIALS = 48


def black(path: Path, start: int, stop: int) -> tuple[np.ndarray, int]:
    return np.zeros((stop - start, 3, 224, 224), np.float16), 0


def prepared(release: SmallRelease, root: Path, subjects=SUBJECTS, **options) -> DataLayout:
    """The prepared files, without images, which take the longest."""
    settings = PreparationSettings(trials_per_session=TRIALS, **options)
    with patch.object(preparation, "resized_stimuli", black):
        facts = prepare_nsd(NsdRelease(release.root), subjects, root, settings, progress=False)
    assert set(facts) == {*(f"subj{subject:02d}" for subject in subjects), "images", "captions"}
    return DataLayout(root)


@pytest.fixture(scope="module")
def layout(release: SmallRelease, tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    """The prepared files, complete."""
    root = tmp_path_factory.mktemp("prepared") / "new"
    prepare_nsd(
        NsdRelease(release.root), SUBJECTS, root, PreparationSettings(trials_per_session=TRIALS), progress=False
    )
    return DataLayout(root)


def notebook(release: SmallRelease, subject: int, zscore: str) -> np.ndarray:
    """Responses as the notebook of MindEye2 prepares them: whole volumes in memory, scikit-learn's scaler."""
    mask = nibabel.load(release.roi(subject, "nsdgeneral")).get_fdata().flatten() >= 1
    shared = world_shared(release, subject)
    sessions = []
    for session in range(1, 5):
        volumes = nibabel.load(release.betas(subject, session)).get_fdata() / 300
        sessions.append(np.moveaxis(volumes, -1, 0).reshape(TRIALS, -1)[:, mask])
    if zscore == "none":
        return np.concatenate(sessions)
    tested = shared.reshape(4, TRIALS)
    if zscore == "train_sessions_only":
        fitted = np.concatenate([sessions[1][~tested[1]], sessions[2][~tested[2]]])
        return StandardScaler().fit(fitted).transform(np.concatenate(sessions))
    scaled = []
    for session, test in zip(sessions, tested, strict=True):
        fitted = session[~test] if zscore == "exclude_shared1000" else session
        scaled.append(StandardScaler().fit(fitted).transform(session))
    return np.concatenate(scaled)


def world_shared(release: SmallRelease, subject: int) -> np.ndarray:
    from scipy.io import loadmat

    lines = release.responses(subject).read_text().splitlines()
    ids = [int(line.split("\t")[4]) for line in lines[1:]]
    return np.isin(ids, loadmat(release.design)["sharedix"])


def test_betas_are_the_worlds(layout: DataLayout, tiny_nsd: Path) -> None:
    for subject in SUBJECTS:
        # An integer is a third of a hundredth of a z-score at most.
        np.testing.assert_allclose(betas(layout, subject), betas(DataLayout(tiny_nsd), subject), atol=4e-3)
        with h5py.File(layout.betas(subject)) as file:
            assert file["betas"].dtype == np.float32


@pytest.mark.parametrize("zscore", ["all_trials", "exclude_shared1000", "train_sessions_only", "none"])
def test_zscores_are_those_of_the_published_notebook(release: SmallRelease, tmp_path: Path, zscore: str) -> None:
    options = {"zscore": zscore, "zscore_sessions": (3, 2)}
    found = betas(prepared(release, tmp_path / "new", (1,), **options), 1)
    np.testing.assert_allclose(found, notebook(release, 1, zscore), atol=1e-6, rtol=1e-6)


def test_both_formats_hold_the_same(release: SmallRelease, layout: DataLayout, tiny_nsd: Path, tmp_path: Path) -> None:
    mixed = write_release(DataLayout(tiny_nsd), SUBJECTS, tmp_path / "mixed", ("hdf5", "nii.gz"))
    assert mixed.betas(1, 2, "hdf5").is_file()
    assert mixed.betas(1, 3).is_file()
    again = prepared(mixed, tmp_path / "new")
    for subject in SUBJECTS:
        np.testing.assert_array_equal(betas(again, subject), betas(layout, subject))


def test_trials_and_their_order_are_the_worlds(layout: DataLayout, tiny_nsd: Path) -> None:
    world = DataLayout(tiny_nsd)
    kept = [Behaviour.STIMULUS, Behaviour.SUBJECT, Behaviour.SESSION, Behaviour.BETA_ROW, Behaviour.IS_SHARED1000]
    for subject in SUBJECTS:
        found, known = world_trials(layout, subject), world_trials(world, subject)
        np.testing.assert_array_equal(found[:, kept], known[:, kept])
        assert (found[::7, Behaviour.BUTTON] == -1).all()
        assert (found[1::7, Behaviour.REACTION_TIME] == 500.5 + np.arange(len(found))[1::7]).all()
        assert (
            found[:, Behaviour.TIME] == np.floor(7 * found[:, Behaviour.SESSION] + np.arange(len(found)) / 1e3)
        ).all()
        for split, indices in (("train", range(4)), ("new_test", [0]), ("test", [0])):
            for index in indices:
                new, old = (
                    read_shard(layout.shard(subject, split, index)),
                    read_shard(world.shard(subject, split, index)),
                )
                assert list(new) == list(old)
                for sample in new:
                    for kind in ("past_behav", "olds_behav", "future_behav"):
                        np.testing.assert_array_equal(new[sample][kind][:, kept], old[sample][kind][:, kept])


def test_masks_and_noise_ceilings(release: SmallRelease, layout: DataLayout, tiny_nsd: Path) -> None:
    for subject in SUBJECTS:
        voxels = voxel_coordinates(subject, betas(layout, subject).shape[1])
        image = nibabel.load(layout.brain_mask(subject))
        np.testing.assert_array_equal(np.nonzero(image.get_fdata()), voxels)
        np.testing.assert_array_equal(image.affine, nibabel.load(release.betas(subject, 1)).affine)
        areas = nibabel.load(release.roi(subject, "prf-visualrois")).get_fdata()[voxels]
        regions = read_regions(layout, subject)
        assert regions["nsd_general"].all()
        for number, name in ((1, "V1"), (2, "V1"), (3, "V2"), (4, "V2"), (5, "V3"), (6, "V3"), (7, "V4")):
            assert regions[name][areas == number].all()
        assert regions["V1"].sum() == np.isin(areas, (1, 2)).sum()
        assert regions["V4"].sum() == (areas == 7).sum()
        np.testing.assert_array_equal(regions["higher_vis"], areas < 1)
        np.testing.assert_array_equal(read_ncsnr(layout, subject), read_ncsnr(DataLayout(tiny_nsd), subject))


def test_images_are_resized_by_the_same_filter(release: SmallRelease, layout: DataLayout) -> None:
    with h5py.File(release.stimuli) as file, h5py.File(layout.stimuli) as made:
        brick, images = file["imgBrick"][:], made["images"][:]
    assert images.shape == (len(brick), 3, 224, 224)
    assert images.dtype == np.float16
    for image, pixels in zip(images[::9], brick[::9], strict=True):
        again = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)) / 255
        np.testing.assert_allclose(image.transpose(1, 2, 0), again, atol=1e-3)


def test_captions_follow_nsds_table_of_images(
    release: SmallRelease, broken: SmallRelease, tiny_nsd: Path, tmp_path: Path
) -> None:
    captions = json.loads(DataLayout(tiny_nsd).captions.read_text())
    write_captions(broken, captions)
    assert json.loads(prepared(broken, tmp_path / "new", (1,)).captions.read_text()) == captions
    (broken.stimuli.parent / "annotations" / "captions_val2017.json").unlink()
    assert not prepared(broken, tmp_path / "without", (1,)).captions.exists()


def test_some_masks_together_and_first_sessions_alone(broken: SmallRelease, tmp_path: Path) -> None:
    faces = np.zeros(SHAPE)
    faces[4], faces[5] = np.nan, 3
    write_nifti(broken.roi(1, "floc-faces"), faces)
    own = np.zeros(SHAPE, np.uint8)
    own[0, 0] = 1
    write_nifti(tmp_path / "subj01_own.nii.gz", own)
    mask = ("floc-faces", str(tmp_path / "{subject}_own.nii.gz"))
    layout = prepared(broken, tmp_path / "new", (1,), mask=mask, max_sessions=2)
    chosen = (faces > 0) | (own > 0)
    assert betas(layout, 1).shape == (2 * TRIALS, chosen.sum())
    np.testing.assert_array_equal(nibabel.load(layout.brain_mask(1)).get_fdata() > 0, chosen)
    general = nibabel.load(broken.roi(1, "nsdgeneral")).get_fdata()[chosen] > 0
    np.testing.assert_array_equal(read_regions(layout, 1)["nsd_general"], general)


@pytest.mark.parametrize("formats", [("nii.gz",), ("hdf5",)])
def test_voxels_without_data_are_zero_or_left_out(tiny_nsd: Path, tmp_path: Path, formats, capsys) -> None:
    release = write_release(DataLayout(tiny_nsd), (1,), tmp_path / "release", formats)
    x, y, z = (axis[3] for axis in voxel_coordinates(1, 40))
    path = release.betas(1, 2, formats[0])
    if formats == ("hdf5",):
        with h5py.File(path, "r+") as file:
            file["betas"][:, z, y, x] = 0
    else:
        image = nibabel.load(path)
        volumes = np.asarray(image.dataobj).copy()
        volumes[x, y, z] = 0
        write_nifti(path, volumes, image.affine)
    for zscore in ("exclude_shared1000", "train_sessions_only", "none"):
        found = betas(prepared(release, tmp_path / zscore, (1,), zscore=zscore), 1)
        assert (found[TRIALS : 2 * TRIALS, 3] == 0).all()
        assert np.isfinite(found).all()
        assert found[:TRIALS, 3].std() > 0
        assert found[TRIALS : 2 * TRIALS, 4].std() > 0
    assert "subj01: 1 times, a voxel has one value" in capsys.readouterr().out.replace("\n", " ")
    layout = prepared(release, tmp_path / "finite", (1,), mask=("all_finite",))
    mask = nibabel.load(layout.brain_mask(1)).get_fdata() > 0
    assert not mask[x, y, z]
    (general,) = np.nonzero(nibabel.load(release.roi(1, "nsdgeneral")).get_fdata()[mask] > 0)
    assert len(general) == 39
    every = prepared(release, tmp_path / "every", (1,))
    np.testing.assert_array_equal(betas(layout, 1)[:, general], np.delete(betas(every, 1), 3, axis=1))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_preparation_goes_on(
    release: SmallRelease, layout: DataLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    root, settings = tmp_path / "killed", PreparationSettings(trials_per_session=TRIALS)
    write, left = preparation._write_rows, 5

    def stop(path: Path, start: int, rows: np.ndarray) -> None:
        nonlocal left
        left -= 1
        write(path, start, rows if left else rows * 0)
        if not left:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "_write_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_nsd(NsdRelease(release.root), SUBJECTS, root, settings, workers=workers, progress=False)
    finished = json.loads((root / "progress.json").read_text())
    done = {(name, int(start)) for name, starts in finished.items() for start in starts}
    written = set()

    def note(path: Path, start: int, rows: np.ndarray) -> None:
        written.add((path.name, start))
        write(path, start, rows)

    monkeypatch.setattr(preparation, "_write_rows", note)
    prepare_nsd(NsdRelease(release.root), SUBJECTS, root, settings, workers=workers, progress=False)
    assert len(done) == 4
    assert not done & written
    sessions = {(layout.betas(subject).name, TRIALS * session) for subject in SUBJECTS for session in range(4)}
    assert done | written > sessions
    assert contents(root) == contents(layout.root)


def contents(root: Path) -> str:
    return fingerprint_folder(root, [path for path in root.rglob("*") if path.is_file()])
