"""A miniature of MOSAIC: one hdf5 file for each subject, areas of few grayordinates, and images."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from mindeye_pl.data.mosaic.files import mosaic_name
from mindeye_pl.data.mosaic.parcellation import VISUAL
from tests.data.released.planted import Brain, images
from tests.data.released.read_back import Known

SUBJECTS = (1, 203)
NUM_GRAYORDINATES = 150
NUM_IMAGES, NUM_TESTED = 30, 6


def areas() -> np.ndarray:
    """Return the number of the area of each grayordinate; 0 is none, the last area is not visual."""
    return np.random.default_rng(0).integers(0, 2 * len(VISUAL) + 3, NUM_GRAYORDINATES)


def labels() -> list[str]:
    return ["", *(f"{side}_{name}" for name in VISUAL for side in "LR"), "L_A1", "brainStem"]


def in_area(name: str) -> np.ndarray:
    return np.isin(areas(), [number for number, label in enumerate(labels()) if label in (f"L_{name}", f"R_{name}")])


def visual() -> np.ndarray:
    return np.logical_or.reduce([in_area(name) for name in VISUAL])


def image_name(index: int) -> str:
    return f"n0123.4567_{index}"


def phase(subject: int, image: int) -> str:
    """Return an image's phase: the last tested image is a training image of the second subject."""
    tested = NUM_TESTED if subject == SUBJECTS[0] else NUM_TESTED - 1
    return "test" if image < tested else "train"


def keys(subject: int) -> dict[str, int]:
    """Return the image of each response by its name, in the order in which they are written."""
    shown = [(image, repetition) for image in range(NUM_IMAGES) for repetition in range(3 if image < NUM_TESTED else 1)]
    return {
        f"{mosaic_name(subject)}_stimulus-{image_name(image)}_phase-{phase(subject, image)}_rep-{repetition}": image
        for image, repetition in shown
    }


def known(subject: int) -> Known:
    named = keys(subject)
    ordered = [sorted(named)[index] for index in np.random.default_rng(0).permutation(len(named))]
    ids = np.array([named[key] for key in ordered])
    recorded = dict(zip(named, responses(subject), strict=True))
    seen = images(NUM_IMAGES)[ids]
    betas = np.stack([recorded[key] for key in ordered])[:, visual()]
    return Known(seen, np.ones(len(ids), int), ids < NUM_TESTED, betas)


def responses(subject: int) -> np.ndarray:
    return Brain(NUM_GRAYORDINATES, seed=subject).responses(images(NUM_IMAGES)[list(keys(subject).values())])


def write_mosaic(folder: Path) -> None:
    raw = folder / "stimuli" / "raw"
    raw.mkdir(parents=True)
    for index, pixels in enumerate(images(NUM_IMAGES)):
        Image.fromarray(pixels).save(raw / f"{image_name(index)}.png")
    np.savez(folder / "mmp_1.0.npz", map_all=areas(), labels=np.array(labels()), ids=np.arange(len(labels())))
    for subject in SUBJECTS:
        with h5py.File(folder / f"{mosaic_name(subject)}.hdf5", "w") as file:
            group = file.create_group("betas", track_order=True)
            for number, (key, image) in enumerate(keys(subject).items()):
                dataset = group.create_dataset(key, data=responses(subject)[number][:, None])
                if subject == SUBJECTS[0]:
                    dataset.attrs["image_stimulus_filename"] = f"{image_name(image)}.png"
                    dataset.attrs["phase"] = phase(subject, image)
