"""A miniature of BOLD5000, release 2.0: two trials in each run, arrays of regions or NIfTI files."""

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from tests.data.released.planted import Brain, images
from tests.data.released.read_back import Known

SUBJECTS = (3, 4)
RUNS = {3: (10, 9, 10, 9, 10, 10, 10, 9, 9, 9, 10, 9, 9, 9, 10), 4: (10, 9, 9, 10, 9, 9, 9, 9, 10)}
TRIALS_PER_RUN = 2
SHAPE = (6, 5, 4)
#: As in the files: those of subject 3 have other names.
REGIONS = {
    3: ("LHEarlyVis", "LHLO", "LHOPA", "LHPPA", "LHRSC", "RHEarlyVis", "RHLO", "RHOPA", "RHPPA", "RHRSC"),
    4: ("LHEarlyVis", "LHLOC", "LHOPA", "LHPPA", "LHRSC", "RHEarlyVis", "RHLOC", "RHOPA", "RHPPA", "RHRSC"),
}
NAMES = ("EarlyVis", "LOC", "OPA", "PPA", "RSC")
_FOLDERS = ("COCO", "ImageNet", "Scene")
NUM_REPEATED, NUM_IMAGES = 6, 200
_BETAS = "GLMbetas-TYPED-FITHRF-GLMDENOISE-RR"


def image_name(index: int) -> str:
    return (f"COCO_train2014_{index:012d}.jpg.png", f"n{index:08d}_1.png", f"concert{index}.png")[index % 3]


def sessions(subject: int) -> np.ndarray:
    runs = np.array(RUNS[subject])
    return np.repeat(np.arange(1, len(runs) + 1), runs * TRIALS_PER_RUN)


def shown(subject: int) -> np.ndarray:
    """Return the image of each trial: the repeated ones four times, others once."""
    count, rng = len(sessions(subject)), np.random.default_rng(subject)
    others = rng.permutation(np.arange(NUM_REPEATED, NUM_IMAGES))
    while len(others) < count:  # a few training images are shown again
        others = np.concatenate([others, others])
    return rng.permutation(np.concatenate([np.repeat(np.arange(NUM_REPEATED), 4), others[: count - 4 * NUM_REPEATED]]))


def masks(subject: int) -> dict[str, np.ndarray]:
    """Return masks that overlap."""
    rng = np.random.default_rng(subject)
    return {name: rng.random(SHAPE) < 0.08 for name in REGIONS[subject]}


def known(subject: int, *, as_arrays: bool) -> Known:
    ids = shown(subject)
    seen, found = images(NUM_IMAGES)[ids], masks(subject)
    if as_arrays:
        recorded = np.concatenate(list(arrays(subject).values()), axis=1)
    else:
        inside = np.logical_or.reduce(list(found.values()))
        recorded = volume_responses(subject)[:, inside]
    return Known(seen, sessions(subject), ids < NUM_REPEATED, recorded)


def volume_responses(subject: int) -> np.ndarray:
    responses = Brain(int(np.prod(SHAPE)), seed=subject).responses(images(NUM_IMAGES)[shown(subject)])
    return responses.reshape(-1, *SHAPE)


def arrays(subject: int) -> dict[str, np.ndarray]:
    """Return the responses of each region, in the order of the prepared voxels: by region, then by hemisphere."""
    volumes, found = volume_responses(subject), masks(subject)
    order = [name for region in NAMES for name in found if name[2:] in (region, {"LOC": "LO"}.get(region))]
    return {name: volumes[:, found[name]] for name in order}


def write_bold5000(folder: Path, *, as_arrays: bool) -> None:
    stimuli = folder / "BOLD5000_Stimuli/Scene_Stimuli"
    for index, pixels in enumerate(images(NUM_IMAGES)):
        path = stimuli / "Presented_Stimuli" / _FOLDERS[index % 3] / image_name(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    repeated = "".join(f"{image_name(index)}\n" for index in range(NUM_REPEATED))
    (stimuli / "repeated_stimuli_113_list.txt").write_text(repeated)
    for subject in SUBJECTS:
        names = "".join(f"{image_name(index)}\n" for index in shown(subject))
        (folder / f"CSI{subject}_imgnames.txt").write_text(names)
        if as_arrays:
            regions = folder / "BOLD5000_GLMsingle_ROI_betas/py"
            regions.mkdir(parents=True, exist_ok=True)
            for name, betas in arrays(subject).items():
                np.save(regions / f"CSI{subject}_{_BETAS}_allses_{name}.npy", betas)
            continue
        spm = folder / f"sub-CSI{subject}"
        spm.mkdir()
        for name, mask in masks(subject).items():
            nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), np.eye(4)), spm / f"{spm.name}_mask-{name}.nii.gz")
        volumes = volume_responses(subject)
        for session in np.unique(sessions(subject)):
            volume = np.moveaxis(volumes[sessions(subject) == session], 0, -1)
            path = folder / f"CSI{subject}_{_BETAS}_ses-{session:02d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
