"""Every broken input ends in one line and exit code 2, and leaves no artifact."""

import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.runner.preflight import check_inputs, missing_files
from mindeye_pl.steps.inputs.prepare_own import PREPARE_OWN
from tests.conftest import CommandLine
from tests.data.own.made_study import AFFINE, nibabel, write_study

BETAS, EVENTS = "sub-01_ses-01_betas.hdf5", "sub-01_ses-01_task-images_run-01_events.tsv"
MASK = "sub-01_mask.nii.gz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, num_images=12, sessions=2, num_voxels=20)
    return folder


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    """A study that a test may break."""
    return Path(shutil.copytree(whole, tmp_path / "study"))


def edit_betas(study: Path, change: Callable[[np.ndarray], np.ndarray | None], name: str = BETAS) -> None:
    with h5py.File(study / name, "r+") as file:
        values = file["betasmd"][:]
        changed = change(values)
        del file["betasmd"]
        file["betasmd"] = values if changed is None else changed


def edit_events(study: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = (study / EVENTS).read_text().splitlines()
    (study / EVENTS).write_text("\n".join(change(lines)) + "\n")


def write_mask(study: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nibabel.save(nibabel.Nifti1Image(values, affine), study / MASK)


def mask_of(study: Path) -> np.ndarray:
    return np.asarray(nibabel.load(study / MASK).dataobj)


def no_betas(study: Path) -> None:
    for path in study.glob("*betas*"):
        path.unlink()


def pickled(study: Path) -> None:
    (study / BETAS).unlink()
    np.save(study / BETAS.replace(".hdf5", ".npy"), {"betasmd": np.zeros((2, 3))})  # as GLMsingle does


def bare_pickle(study: Path) -> None:
    (study / BETAS).unlink()
    (study / BETAS.replace(".hdf5", ".npy")).write_bytes(pickle.dumps({"betasmd": [1]}))


def a_trial_less(study: Path) -> None:
    edit_betas(study, lambda values: values[..., :-1])


def missing_images(study: Path) -> None:
    for path in sorted((study / "stimuli").iterdir())[:5]:
        path.unlink()


def constant(study: Path) -> None:
    edit_betas(study, lambda values: np.where(np.isnan(values), values, 1))


def not_finite(study: Path) -> None:
    inside = np.argwhere(mask_of(study))[:11]

    def change(values: np.ndarray) -> None:
        values[(*inside.T, 0)] = np.inf

    edit_betas(study, change)


def other_affine(study: Path) -> None:
    with h5py.File(study / BETAS) as file:
        nibabel.save(
            nibabel.Nifti1Image(file["betasmd"][:], AFFINE + np.diag([0, 0, 1, 0])),
            study / "sub-01_ses-01_betas.nii.gz",
        )
    (study / BETAS).unlink()


def out_of_order(study: Path) -> None:
    edit_events(study, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])


def no_image(study: Path) -> None:
    (study / "stimuli" / "0003.png").write_text("an image was here")


def deep_image(study: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(study / "stimuli" / "0003.png")


def cut_image(study: Path) -> None:
    path = study / "stimuli" / "0003.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])


def session_twice(study: Path) -> None:
    np.save(study / "sub-01_ses-01_betas.npy", np.zeros((12, 3)))


def no_trial(study: Path) -> None:
    for path in study.glob("sub-01_ses-01*events.tsv"):
        path.write_text("onset\tduration\tstim_file\n2.0\t1.0\tn/a\n")


def empty_mask(study: Path) -> None:
    write_mask(study, np.zeros_like(mask_of(study)))


def mask_of_another_size(study: Path) -> None:
    write_mask(study, np.ones((4, 4, 4), np.uint8))


def mask_of_four_axes(study: Path) -> None:
    write_mask(study, np.ones((8, 7, 6, 2), np.uint8))


def mixed_voxels(study: Path) -> None:
    edit_betas(study, lambda values: values[:-1], BETAS.replace("ses-01", "ses-02"))


def no_column(study: Path) -> None:
    edit_events(study, lambda lines: [lines[0].replace("stim_file", "image"), *lines[1:]])


def no_onset(study: Path) -> None:
    edit_events(study, lambda lines: [lines[0], lines[1].replace("8.0", "soon"), *lines[2:]])


def short_line(study: Path) -> None:
    edit_events(study, lambda lines: [lines[0], "8.0\t3.0", *lines[2:]])


def no_events(study: Path) -> None:
    for path in study.glob("sub-01_ses-02*events.tsv"):
        path.unlink()


def truncated(study: Path) -> None:
    (study / BETAS).write_bytes((study / BETAS).read_bytes()[:3000])


def without_betas(study: Path) -> None:
    with h5py.File(study / BETAS, "w") as file:
        file["R2"], file["R2run"] = np.zeros((3, 4)), np.zeros((3, 4))


def of_text(study: Path) -> None:
    edit_betas(study, lambda values: np.full(values.shape, b"x"))


def of_three_axes(study: Path) -> None:
    (study / BETAS).unlink()
    np.save(study / BETAS.replace(".hdf5", ".npy"), np.zeros((3, 4, 12)))


def cut_nifti(study: Path) -> None:
    (study / MASK).write_bytes((study / MASK).read_bytes()[:40])


def two_masks(study: Path) -> None:
    shutil.copy(study / MASK, study / "sub-01_label-V1_mask.nii.gz")


def unnamed(study: Path) -> None:
    (study / "sub-01").mkdir()
    (study / BETAS).rename(study / "betas.hdf5")


def no_image_folder(study: Path) -> None:
    shutil.rmtree(study / "stimuli")


def one_image(study: Path) -> None:
    for path in study.glob("*events.tsv"):
        path.write_text(re.sub(r"\d{4}\.png", "0001.png", path.read_text()))


def damaged_npy(study: Path) -> None:
    (study / BETAS).unlink()
    (study / BETAS.replace(".hdf5", ".npy")).write_bytes(struct.pack("<10d", *range(10)))


#: What is broken, and words of the line.
BROKEN: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (shutil.rmtree, ("lacks", "the folder own.path=", "study", "docs/tutorials/your_own_scanner.md")),
    (no_betas, ("no betas were found", "sub-*_betas.*", "Fix: own.betas=PATTERN")),
    (pickled, ("is a pickle", "GLMsingle's default", "np.save(", "betasmd", "wanthdf5")),
    (bare_pickle, ("is a pickle", "np.save(")),
    (a_trial_less, (BETAS, "another number of trials", "got: 11 in", "expected: 12")),
    (missing_images, ("5 of 12 images", "0000.png, 0001.png, 0002.png and 2 more", "Fix: own.images=FOLDER")),
    (constant, ("sub-01: no voxel varies", "20 constant voxels")),
    (not_finite, ("sub-01: more than half", "11 of 20", "own.mask=FILE")),
    (other_affine, ("lie in different spaces", "3 mm", "own.mask=FILE")),
    (out_of_order, (EVENTS, "not in the order of the trials", "onset 8 after 12 in line 3")),
    (no_image, ("0003.png is damaged or not an image",)),
    (deep_image, ("0003.png is not an 8-bit image", "expected: RGB")),
    (cut_image, ("0003.png is damaged or not an image",)),
    (session_twice, ("sub-01 ses-01 has betas twice", "betas.npy", "betas.hdf5", "own.betas=PATTERN")),
    (no_trial, (BETAS, "no trial with an image", "own.image_column=COLUMN")),
    (empty_mask, (MASK, "selects no voxel")),
    (mask_of_another_size, (MASK, "does not fit the betas", "(4, 4, 4)", "(8, 7, 6)")),
    (mask_of_four_axes, (MASK, "is no mask", "(8, 7, 6, 2)")),
    (mixed_voxels, ("sub-01_ses-02_betas.hdf5 has other voxels", "got: (7, 7, 6)", "expected: (8, 7, 6)")),
    (no_column, (EVENTS, "no column stim_file", "onset, duration, trial_type, image", "own.image_column=")),
    (no_onset, (EVENTS, "an onset that is no number", "'soon' in line 2")),
    (short_line, (EVENTS, "incomplete line", "2 cells in line 2")),
    (no_events, ("sub-01_ses-02 has betas and no events table", "own.events=PATTERN")),
    (truncated, (BETAS, "truncated or not an hdf5 file")),
    (without_betas, (BETAS, "has no betas", "R2, R2run", "betasmd or modelmd or betas", "own.dataset=NAME")),
    (of_text, (BETAS, "holds no")),
    (of_three_axes, ("is no array of betas", "(3, 4, 12)", "(trials, V) or (X, Y, Z, trials)")),
    (damaged_npy, ("is damaged or no .npy file",)),
    (cut_nifti, (MASK, "is truncated or no NIfTI file")),
    (two_masks, ("sub-01 has more than one mask", "own.mask=PATTERN")),
    (no_image_folder, ("the folder of the images is missing", "own.images=FOLDER")),
    (one_image, ("too few images", "got: 1")),
]


CASES = pytest.mark.parametrize(("broken", "says"), BROKEN, ids=lambda case: getattr(case, "__name__", ""))


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration, composed once."""
    GlobalHydra.instance().clear()
    return compose_config(["data=own", "pipeline=prepare_own"])


def prepare(config: DictConfig) -> None:
    """Prepare as the command line does: all checks come first."""
    run = Run(config)
    if missing := missing_files(run, [PREPARE_OWN]):
        raise UserError(f"lacks {missing[0]}")
    check_inputs(run, [PREPARE_OWN])
    run.make(PREPARE_OWN)


@CASES
def test_a_broken_input_is_refused(
    composed: DictConfig, study: Path, tmp_path: Path, broken: Callable[[Path], None], says: tuple[str, ...]
) -> None:
    broken(study)
    config = composed.copy()
    config.own.path, config.paths.outputs = str(study), str(tmp_path / "outputs")
    with pytest.raises(UserError) as refused:
        prepare(config)
    line = str(refused.value)
    assert "\n" not in line
    for words in says:
        assert words in line
    assert not list((tmp_path / "outputs").glob("artifacts/prepare_own/[!.]*"))


@pytest.mark.slow
@CASES
def test_a_broken_input_is_one_line_and_exit_code_2(
    cli: CommandLine, study: Path, broken: Callable[[Path], None], says: tuple[str, ...]
) -> None:
    broken(study)
    cli.refuses("data=own", "pipeline=prepare_own", f"own.path={study}", "logger=none", says=says)
    assert not list((cli.outputs / "artifacts" / "prepare_own").glob("[!.]*"))


def test_options_that_find_nothing_are_refused(cli: CommandLine, study: Path) -> None:
    command = ("data=own", "pipeline=prepare_own", f"own.path={study}", "logger=none")
    for option, says in (
        ("own.mask=other.nii.gz", ("sub-01 has no mask", "own.mask=other.nii.gz")),
        ("own.image_column=picture", ("no column picture",)),
        ("own.split=random", ("own.split has a wrong value", "got: random")),
        ("own.test_fraction=0.9", ("own.test_fraction has a wrong value",)),
        ("own.dataset=betas", (BETAS, "has no betas", "expected: betas")),
    ):
        cli.refuses(*command, option, says=says)
    cli.refuses("pipeline=prepare_own", "logger=none", says=("data are not a laboratory's own", "Fix: data=own"))
    cli.refuses("data=own", "pipeline=prepare_own", "logger=none", says=("own.path=FOLDER",))
