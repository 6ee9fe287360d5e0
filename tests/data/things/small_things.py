"""A miniature of THINGS-fMRI in table format; `ResponseData.h5` has the datasets that pandas writes."""

import csv
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from tests.data.released.planted import Brain, images
from tests.data.released.read_back import Known

SUBJECTS = (1, 2)
NUM_TRAINED, NUM_TESTED, SESSIONS, RUNS = 24, 5, 3, 2
NUM_VOXELS = 60
CEILING = 40.0  # percent, of one voxel


def shown(subject: int) -> np.ndarray:
    """Return the image of each trial in temporal order; from `NUM_TRAINED` on they are test images, in each session."""
    rng = np.random.default_rng(subject)
    trained = rng.permutation(NUM_TRAINED).reshape(SESSIONS, -1)
    tested = NUM_TRAINED + np.arange(NUM_TESTED)
    return np.stack([rng.permutation(np.concatenate([each, tested])) for each in trained])  # (sessions, trials)


def regions(subject: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + subject)
    names = ("V1", "LO1 (prf)", "lFFA", "IT", "glasser-V1")
    return {name: rng.random(NUM_VOXELS) < 0.2 for name in names}


def kept(subject: int) -> np.ndarray:
    return np.logical_or.reduce([mask for name, mask in regions(subject).items() if name != "glasser-V1"])


def known(subject: int) -> Known:
    ids = shown(subject)
    sessions = np.repeat(np.arange(1, SESSIONS + 1), ids.shape[1])
    seen = images(NUM_TRAINED + NUM_TESTED)[ids.ravel()]
    recorded = Brain(NUM_VOXELS, seed=subject).responses(seen)
    return Known(seen, sessions, ids.ravel() >= NUM_TRAINED, recorded[:, kept(subject)])


def write_things(folder: Path) -> None:
    (folder / "betas_csv").mkdir(parents=True)
    for index, pixels in enumerate(images(NUM_TRAINED + NUM_TESTED)):
        path = folder / "object_images" / f"concept{index % 7}" / f"concept{index % 7}_{index}s.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    for subject in SUBJECTS:
        write_subject(folder / "betas_csv", subject)


def write_subject(folder: Path, subject: int) -> None:
    ids, per_session = shown(subject), shown(subject).shape[1]
    responses = Brain(NUM_VOXELS, seed=subject).responses(images(NUM_TRAINED + NUM_TESTED)[ids.ravel()])
    # The table's rows are not in temporal order: sessions come from the last to the first.
    order = np.concatenate([np.arange(per_session) + session * per_session for session in reversed(range(SESSIONS))])
    with (folder / f"sub-{subject:02d}_StimulusMetadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["trial_type", "session", "run", "subject_id", "trial_id", "stimulus", "concept"])
        for trial in order:
            image, session = ids.ravel()[trial], trial // per_session + 1
            kind = "test" if image >= NUM_TRAINED else "train"
            run = trial % per_session // (per_session // RUNS + 1) + 1
            name = f"concept{image % 7}_{image}s.png"
            table.writerow([kind, session, run, subject, trial, name, f"concept{image % 7}"])
    masks = regions(subject)
    with (folder / f"sub-{subject:02d}_VoxelMetadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["voxel_id", "subject_id", "voxel_x", "nc_singletrial", "nc_testset", *masks])
        for voxel in range(NUM_VOXELS):
            ceiling = CEILING if voxel % 2 else ""
            table.writerow([voxel, subject, voxel, "", ceiling, *(int(mask[voxel]) for mask in masks.values())])
    with h5py.File(folder / f"sub-{subject:02d}_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group["block0_items"] = np.arange(len(order))
        group["block0_values"] = responses[order].T.astype(np.float64)
        group["block1_items"] = np.zeros(1, "S8")
        group["block1_values"] = np.arange(NUM_VOXELS)[:, None]
        group["axis1"] = np.arange(NUM_VOXELS)
