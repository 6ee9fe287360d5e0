"""Miniatures of NSD in the working layout, of NSD-synthetic and of NSD-imagery, in the files of the real ones."""

from pathlib import Path

import h5py
import nibabel
import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.writer import write_images, write_subject
from mindeye_pl.data.nsd_tests.imagery import RUNS
from tests.data.released.planted import Brain, images, within_session

SHAPE = (5, 4, 3)
SUBJECTS = (1, 2)
NUM_SHARED_SYNTHETIC, NUM_COLOURS = 7, 3


def brain(subject: int) -> Brain:
    return Brain(num_voxels=int(mask(subject).sum()), seed=10 * subject)


def mask(subject: int) -> np.ndarray:
    return np.random.default_rng(subject).random(SHAPE) < 0.6


def write_nsd(root: Path, folder: Path) -> DataLayout:
    """Write NSD: 24 images, eight of them tested, three presentations in two sessions."""
    layout = DataLayout(root)
    root.mkdir()
    shown = images(24)
    paths = [folder / f"nsd{index}.png" for index in range(len(shown))]
    for path, pixels in zip(paths, shown, strict=True):
        Image.fromarray(pixels).save(path)
    write_images(layout, paths)
    for subject in SUBJECTS:
        rng = np.random.default_rng(subject)
        ids = np.concatenate([rng.permutation(24) for _ in range(3)])
        betas = within_session(brain(subject).responses(shown[ids]))
        sessions = np.repeat([1, 2], 36)
        write_subject(layout, subject, betas=betas, stimulus_ids=ids, is_test=ids < 8, sessions=sessions)
    return layout


def write_mask(folder: Path, subject: int) -> None:
    path = folder / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi/nsdgeneral.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = np.where(mask(subject), 1, np.where(np.arange(np.prod(SHAPE)).reshape(SHAPE) % 2, 0, -1))
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), path)


def write_betas(path: Path, subject: int, responses: np.ndarray) -> None:
    """Write int16 betas, 300 times the responses `(T, V)`: NIfTI, or hdf5 with the axes as MATLAB writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volumes = np.zeros((*SHAPE, len(responses)), np.int16)
    volumes[mask(subject)] = np.rint(responses.T * 300)
    if path.suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            file["betas"] = volumes.transpose()
    else:
        nibabel.save(nibabel.Nifti1Image(volumes, np.eye(4)), path)


def synthetic_order() -> np.ndarray:
    """Return numbers from 1, an image two or four times."""
    rng = np.random.default_rng(3)
    numbers = np.arange(1, NUM_SHARED_SYNTHETIC + NUM_COLOURS + 1)
    return rng.permutation(np.concatenate([numbers, numbers, numbers[:3], numbers[:3]]))


def synthetic_images(subject: int) -> np.ndarray:
    """Return what a subject saw, wider than high, `(n, 32, 64, 3)` uint8."""
    colours = images(NUM_COLOURS, seed=100 + subject)
    shown = np.concatenate([images(NUM_SHARED_SYNTHETIC, seed=9), colours])
    return np.concatenate([np.zeros_like(shown[:, :, :16]), shown, np.zeros_like(shown[:, :, :16])], axis=2)


def write_synthetic(folder: Path, suffix: str = ".nii.gz") -> None:
    design = folder / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
    design.parent.mkdir(parents=True)
    savemat(design, {"masterordering": synthetic_order()[None].astype(float)})
    stimuli = folder / "nsddata_stimuli/stimuli/nsdsynthetic"
    stimuli.mkdir(parents=True)
    for subject in SUBJECTS:
        write_mask(folder, subject)
        linear = np.rint((synthetic_images(subject) / 255.0) ** 2 * 255).astype(np.uint8)
        with h5py.File(stimuli / "nsdsynthetic_stimuli.hdf5", "w") as file:
            file["imgBrick"] = linear[:NUM_SHARED_SYNTHETIC]
        with h5py.File(stimuli / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5", "w") as file:
            file["imgBrick"] = linear[NUM_SHARED_SYNTHETIC:]
        shown = synthetic_images(subject)[synthetic_order() - 1][:, :, 16:48]
        name = f"nsdsyntheticbetas_fithrf_GLMdenoise_RR/betas_nsdsynthetic{suffix}"
        path = folder / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm" / name
        write_betas(path, subject, brain(subject).responses(shown))


def imagery_conditions(run: str) -> np.ndarray:
    """Return the conditions of a run by onset, twice each; a run of attention has a second epoch after each trial."""
    trials = np.random.default_rng(RUNS.index(run)).permutation(np.repeat(np.arange(6), 2))
    return np.stack([trials, trials + 6], 1).ravel() if run.startswith("att") else trials


def imagery_image(run: str, condition: int) -> np.ndarray:
    return images(18, seed=50)[6 * "ABC".index(run[3]) + condition % 6]


def write_imagery(folder: Path, suffix: str = ".hdf5", *, by_condition: bool = False) -> None:
    experiment = folder / "nsddata/experiments/nsdimagery"
    experiment.mkdir(parents=True)
    cells = np.empty((1, len(RUNS)), object)
    column = 0
    for index, run in enumerate(RUNS):
        conditions = imagery_conditions(run)
        design = np.zeros((3 * len(conditions), 72))
        design[3 * np.arange(len(conditions)), column % 60 + conditions] = 1
        cells[0, index] = csc_matrix(design) if index == 0 else design
        column += 6
    savemat(experiment / "designmatrixGLMsingle.mat", {"stimulus": cells})
    for name in "ABC":
        pairs = np.empty((6, 3), object)
        raw = experiment / "rawtargetimages" / f"set{name}"
        raw.mkdir(parents=True)
        for target in range(6):
            file = f"{name}{5 - target}.png"
            pairs[target] = [target + 1, file, "HRVLPE"[target]]
            Image.fromarray(imagery_image(f"vis{name}", target)).save(raw / file)
        savemat(experiment / f"{name}_pair_list.mat", {"pair_list": pairs})
    for subject in SUBJECTS:
        write_mask(folder, subject)
        shown = []
        for run in RUNS:
            conditions = imagery_conditions(run)
            conditions = np.sort(conditions, kind="stable") if by_condition else conditions
            shown += [imagery_image(run, condition) for condition in conditions]
        name = f"nsdimagerybetas_fithrf_GLMdenoise_RR/betas_nsdimagery{suffix}"
        path = folder / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm" / name
        write_betas(path, subject, brain(subject).responses(np.stack(shown)))
