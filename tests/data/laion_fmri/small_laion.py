"""A miniature of LAION-fMRI: volumes of a session, trials, masks, JPEG images in hdf5, and lists of splits."""

import csv
import io
import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
from PIL import Image

from tests.data.released.planted import Brain, images
from tests.data.released.read_back import Known

SUBJECTS = (1, 3)
SHAPE = (5, 4, 3)
NUM_SHARED, NUM_OOD, NUM_UNIQUE, SESSIONS = 8, 3, 10, 2
REGIONS = ("V1", "FFA1")


def names() -> list[str]:
    """Return all names in the order of the images file: of one that nobody saw, shared, OOD and unique images."""
    found = ["unused.jpg"]
    found += [f"shared_12rep_LAION_cluster_{index}_i0.jpg" for index in range(NUM_SHARED)]
    found += [f"shared_4rep_OOD_shape_{index}.png" for index in range(NUM_OOD)]
    return found + [f"unique_{subject}_{index}.jpg" for subject in SUBJECTS for index in range(NUM_UNIQUE)]


def decoded() -> np.ndarray:
    """Return the images as they look after JPEG, `(n, 32, 32, 3)` uint8, of `names()`."""
    return np.stack([np.array(Image.open(io.BytesIO(content))) for content in _encoded()])


def _encoded() -> list[bytes]:
    contents = []
    for pixels in images(len(names())):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=95)
        contents.append(content.getvalue())
    return contents


def seen_by(subject: int) -> list[str]:
    return [name for name in names() if name.startswith(("shared_", f"unique_{subject}_"))]


def labels(subject: int) -> list[list[str]]:
    """Return the images of each session: shared ones in every session, unique ones in one."""
    rng, seen = np.random.default_rng(subject), seen_by(subject)
    shared = [name for name in seen if name.startswith("shared_")]
    unique = rng.permutation([name for name in seen if name.startswith("unique_")]).reshape(SESSIONS, -1)
    return [rng.permutation([*shared, *each, *each]).tolist() for each in unique]


def masks(subject: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(subject)
    return {name: rng.random(SHAPE) < 0.3 for name in REGIONS}


def inside(subject: int) -> np.ndarray:
    return np.logical_or.reduce(list(masks(subject).values()))


def responses(subject: int) -> np.ndarray:
    shown = [name for session in labels(subject) for name in session]
    pixels = decoded()[[names().index(name) for name in shown]]
    return Brain(int(np.prod(SHAPE)), seed=subject).responses(pixels).reshape(-1, *SHAPE)


def known(subject: int) -> Known:
    shown = [name for session in labels(subject) for name in session]
    sessions = np.repeat(np.arange(1, SESSIONS + 1), list(map(len, labels(subject))))
    is_test = np.array([name.startswith("shared_") for name in shown])
    seen = decoded()[[names().index(name) for name in shown]]
    return Known(seen, sessions, is_test, responses(subject)[:, inside(subject)])


def pool(name: str) -> list[str]:
    """Return the images of a pool, without OOD images."""
    subject = None if name == "shared" else int(name[-2:])
    seen = names() if subject is None else seen_by(subject)
    kinds = ("shared_12rep",) if subject is None else ("shared_12rep", "unique_")
    return [one for one in seen if one.startswith(kinds)]


def lists(pool_name: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return training and test images of each split of a pool."""
    regular, ood = pool(pool_name), [name for name in names() if "_OOD_" in name]
    return {"tau": (regular[4:], regular[:4]), "cluster_k5_0": (regular[:-3], regular[-3:]), "ood": (regular, ood)}


def write_laion(folder: Path) -> None:
    (folder / "stimuli").mkdir(parents=True)
    contents = _encoded()
    with h5py.File(folder / "stimuli/task-images_stimuli.h5", "w") as file:
        dataset = file.create_dataset("images", (len(contents),), h5py.vlen_dtype(np.uint8))
        for row, content in enumerate(contents):
            dataset[row] = np.frombuffer(content, np.uint8)
    with (folder / "stimuli/task-images_metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_name", "dataset", "participant", "unique_or_shared", "n_reps"])
        table.writerows([name, "LAION", "all", name.partition("_")[0], 4] for name in names())
    for name in ("shared", *(f"sub-{subject:02d}" for subject in SUBJECTS)):
        (folder / "splits" / name).mkdir(parents=True)
        for split, (trained, tested) in lists(name).items():
            variant = {"variant_id": 0, "train_ids": trained, "test_ids": tested}
            content = {"name": split, "n_train": len(trained), "n_test": len(tested), "variants": [variant]}
            (folder / "splits" / name / f"{split}.json").write_text(json.dumps(content))
    for subject in SUBJECTS:
        _write_subject(folder / "derivatives", subject)


def _write_subject(derivatives: Path, subject: int) -> None:
    name, volumes, first = f"sub-{subject:02d}", responses(subject), 0
    root = derivatives / "glmsingle-tedana" / name
    for session, shown in enumerate(labels(subject), start=1):
        func = root / f"ses-{session:02d}" / "func"
        func.mkdir(parents=True)
        start = f"{name}_ses-{session:02d}_task-images"
        part, first = volumes[first : first + len(shown)], first + len(shown)
        path = func / f"{start}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.moveaxis(part, 0, -1), np.eye(4)), path)
        with (func / f"{start}_desc-SingletrialBetas_trials.tsv").open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(["session", "run", "beta_index", "label"])
            rows = [[f"ses-{session:02d}", 1, index, label] for index, label in enumerate(shown)]
            table.writerows(reversed(rows))
    ceiling = np.where(inside(subject), 30, 0).astype(np.float32)
    path = root / f"{name}_task-images_space-T1w_desc-Noiseceiling12rep_statmap.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ceiling, np.eye(4)), path)
    for region, mask in masks(subject).items():
        path = derivatives / "rois" / name / "visual" / f"{name}_space-T1w_res-1pt8_label-{region}_mask.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4)), path)
