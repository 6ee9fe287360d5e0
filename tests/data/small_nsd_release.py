"""Writer of NSD's own release in miniature from a simulated world, in NSD's formats and without the package's code.

The responses of the world, z-scores, get an offset and a gain of their own in each session, as percent signal change,
and are stored as NSD stores them: times 300, int16, in volumes of a few voxels.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import nibabel
import numpy as np
from scipy.io import savemat

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.shards import read_behaviour

SHAPE = (9, 8, 7)
AFFINE = np.array([[1.8, 0, 0, -72], [0, 1.8, 0, -93], [0, 0, 1.8, -74], [0, 0, 0, 1.0]])
VERSION = "betas_fithrf_GLMdenoise_RR"
COLUMNS = (
    *("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND"),
    *("MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"),
)
NUM_SUBJECTS = 8


@dataclass(frozen=True)
class SmallRelease:
    """Paths of the files that tests read or break."""

    root: Path

    @property
    def experiments(self) -> Path:
        return self.root / "nsddata" / "experiments" / "nsd"

    @property
    def design(self) -> Path:
        return self.experiments / "nsd_expdesign.mat"

    @property
    def stimuli(self) -> Path:
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    def subject(self, subject: int) -> Path:
        return self.root / "nsddata" / "ppdata" / f"subj{subject:02d}"

    def responses(self, subject: int) -> Path:
        return self.subject(subject) / "behav" / "responses.tsv"

    def roi(self, subject: int, name: str) -> Path:
        return self.subject(subject) / "func1pt8mm" / "roi" / f"{name}.nii.gz"

    def beta_folder(self, subject: int) -> Path:
        return self.root / "nsddata_betas" / "ppdata" / f"subj{subject:02d}" / "func1pt8mm" / VERSION

    def betas(self, subject: int, session: int, suffix: str = "nii.gz") -> Path:
        return self.beta_folder(subject) / f"betas_session{session:02d}.{suffix}"


def world_trials(world: DataLayout, subject: int) -> np.ndarray:
    """All trials of a subject in temporal order, `(T, 17)`."""
    shards = sorted(world.shard(subject, "train").parent.glob("*.tar"))
    rows = np.concatenate([read_behaviour(path) for path in [*shards, world.shard(subject, "new_test")]])
    return rows[np.argsort(rows[:, Behaviour.BETA_ROW])]


def write_release(
    world: DataLayout, subjects: Iterable[int], root: Path, formats: Sequence[Literal["nii.gz", "hdf5"]] = ("nii.gz",)
) -> SmallRelease:
    """Write some subjects; sessions take the formats in turn."""
    release = SmallRelease(root)
    with h5py.File(world.stimuli) as file:
        images = file["images"][:]
    write_images(release, images)
    trials = {subject: world_trials(world, subject) for subject in subjects}
    write_design(release, trials)
    for subject, behaviour in trials.items():
        write_responses(release, subject, behaviour)
        with h5py.File(world.betas(subject)) as file:
            betas = file["betas"][:]
        write_volumes(release, world, subject, betas.shape[1])
        coordinates = voxel_coordinates(subject, betas.shape[1])
        for session in range(1, int(behaviour[:, Behaviour.SESSION].max()) + 1):
            values = betas[behaviour[:, Behaviour.SESSION] == session]
            volumes = stored_volumes(subject, session, values, coordinates)
            suffix = formats[session % len(formats)]
            write_betas(release.betas(subject, session, suffix), volumes)
    return release


def voxel_coordinates(subject: int, num_voxels: int) -> tuple[np.ndarray, ...]:
    """Place of each voxel, ascending in C order, as MindEye2 numbers them."""
    flat = np.random.default_rng(subject).choice(np.prod(SHAPE), num_voxels, replace=False)
    return np.unravel_index(np.sort(flat), SHAPE)


def stored_volumes(subject: int, session: int, zscores: np.ndarray, voxels: tuple[np.ndarray, ...]) -> np.ndarray:
    """Responses of a session as NSD stores them, `(X, Y, Z, T)` int16."""
    rng = np.random.default_rng((subject, session))
    volumes = np.zeros((*SHAPE, len(zscores)), np.int16)
    other = rng.random(SHAPE) < 0.5  # the brain outside of the mask
    volumes[other] = rng.normal(0, 400, (other.sum(), len(zscores)))
    gain, offset = rng.uniform(1, 3, zscores.shape[1]), rng.normal(0, 1, zscores.shape[1])
    volumes[voxels] = np.rint(300 * (zscores * gain + offset)).T
    return volumes


def write_betas(path: Path, volumes: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write `(X, Y, Z, T)` as NIfTI, or as MATLAB writes hdf5: axes reversed, one voxel in a chunk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            chunks = (volumes.shape[-1], 1, 1, 1)
            file.create_dataset("betas", data=np.transpose(volumes), chunks=chunks)
    else:
        write_nifti(path, volumes, affine)


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def write_volumes(release: SmallRelease, world: DataLayout, subject: int, num_voxels: int) -> None:
    """Write nsdgeneral, the visual areas and the noise ceilings; -1 is outside of the cortex."""
    voxels = voxel_coordinates(subject, num_voxels)
    rng = np.random.default_rng(subject + 100)
    general = np.where(rng.random(SHAPE) < 0.5, -1, 0).astype(np.int16)
    general[voxels] = 1
    write_nifti(release.roi(subject, "nsdgeneral"), general)
    areas = np.where(rng.random(SHAPE) < 0.5, -1, 0).astype(np.int16)
    areas[voxels] = rng.permutation(np.arange(num_voxels) % 10).clip(0, 7)  # a part of V4 has two numbers of ten
    areas[voxels] = np.where(areas[voxels] == 0, -1, areas[voxels])
    write_nifti(release.roi(subject, "prf-visualrois"), areas)
    ncsnr = np.full(SHAPE, np.nan, np.float32)
    with h5py.File(world.ncsnr) as file:
        ncsnr[voxels] = file[f"subj{subject:02d}"][:]
    write_nifti(release.beta_folder(subject) / "ncsnr.nii.gz", ncsnr)


def write_images(release: SmallRelease, images: np.ndarray, size: int = 425) -> None:
    """Write images `(N, 3, H, W)` in [0, 1], enlarged to NSD's size."""
    release.stimuli.parent.mkdir(parents=True, exist_ok=True)
    rows = np.arange(size) * images.shape[2] // size
    with h5py.File(release.stimuli, "w") as file:
        brick = file.create_dataset("imgBrick", (len(images), size, size, 3), np.uint8)
        for index, image in enumerate(images):
            pixels = np.rint(image.astype(np.float32) * 255).astype(np.uint8)
            brick[index] = pixels[:, rows][:, :, rows].transpose(1, 2, 0)


def write_design(release: SmallRelease, trials: dict[int, np.ndarray]) -> None:
    """Write the design; a trial has an image of its own, because subjects of a world do not share an order."""
    release.experiments.mkdir(parents=True, exist_ok=True)
    longest = max(map(len, trials.values()))
    images = np.ones((NUM_SUBJECTS, longest), np.uint16)
    for subject, behaviour in trials.items():
        images[subject - 1, : len(behaviour)] = behaviour[:, Behaviour.STIMULUS] + 1
    shared = [rows[rows[:, Behaviour.IS_SHARED1000] == 1, Behaviour.STIMULUS] for rows in trials.values()]
    contents = {
        "masterordering": np.arange(longest, dtype=np.uint16)[None] + 1,
        "subjectim": images,
        "sharedix": np.unique(np.concatenate(shared)).astype(np.uint16)[None] + 1,
    }
    savemat(release.design, contents, do_compression=True)


def write_responses(release: SmallRelease, subject: int, behaviour: np.ndarray) -> None:
    """Write the table of a subject; every seventh trial has no button press."""
    path = release.responses(subject)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS)]
    for trial, row in enumerate(behaviour):
        pressed = trial % 7 != 0
        values = {
            "SUBJECT": subject,
            "SESSION": int(row[Behaviour.SESSION]),
            "RUN": trial // 4 % 12 + 1,
            "TRIAL": trial % 4 + 1,
            "73KID": int(row[Behaviour.STIMULUS]) + 1,
            "10KID": trial + 1,
            "TIME": 7 * row[Behaviour.SESSION] + trial / 1000,
            "ISOLD": trial % 2,
            "ISCORRECT": trial % 3 // 2 if pressed else np.nan,
            "RT": 500.5 + trial if pressed else np.nan,
            "CHANGEMIND": 0 if pressed else np.nan,
            "MEMORYRECENT": np.nan,
            "MEMORYFIRST": np.nan,
            "ISOLDCURRENT": 0,
            "ISCORRECTCURRENT": 1 if pressed else np.nan,
            "TOTAL1": int(pressed),
            "TOTAL2": 0,
            "BUTTON": 1 + trial % 2 if pressed else np.nan,
            "MISSINGDATA": 0,
        }
        lines.append("\t".join("NaN" if np.isnan(values[name]) else str(values[name]) for name in COLUMNS))
    path.write_text("\n".join(lines) + "\n")


def write_captions(release: SmallRelease, captions: list[list[str]]) -> None:
    """Write NSD's table of images, and COCO's captions in two splits."""
    rows = [",cocoId,cocoSplit,cropBox,loss,nsdId,flagged"]
    annotations: dict[str, list[dict]] = {"train2017": [], "val2017": []}
    for stimulus, sentences in enumerate(captions):
        split = "val2017" if stimulus % 5 == 0 else "train2017"
        rows.append(f'{stimulus},{9000 - stimulus},{split},"(0, 0, 0.1, 0.1)",0.1,{stimulus},False')
        annotations[split] += [{"image_id": 9000 - stimulus, "caption": f" {text}\n"} for text in sentences]
    (release.experiments / "nsd_stim_info_merged.csv").write_text("\n".join(rows) + "\n")
    folder = release.stimuli.parent / "annotations"
    folder.mkdir()
    for split, content in annotations.items():
        (folder / f"captions_{split}.json").write_text(json.dumps({"annotations": content}))
