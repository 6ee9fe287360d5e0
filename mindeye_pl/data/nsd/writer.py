"""Writer of a dataset in MindEye2's file layout, for conversions from other formats (docs/extending.md)."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.image_files import read_pixels
from mindeye_pl.data.nsd.design import Design
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.shard_writer import write_shards
from mindeye_pl.errors import UserError


def write_images(layout: NSDLayout, files: Sequence[Path]) -> None:
    """Write image files of one size; an image's index in `files` becomes its stimulus id.

    Raises:
        UserError: if there is no image, a file is damaged, or images differ in size.
    """
    if not files:
        raise UserError("there are no images to convert", expected="at least one image file")
    shape = tuple(read_pixels(files[0]).shape)
    with h5py.File(layout.stimuli, "w") as file:
        images = file.create_dataset("images", (len(files), *shape), np.float16)
        for index, path in enumerate(files):
            pixels = read_pixels(path).numpy()  # (3, H, W) uint8
            if pixels.shape != shape:
                raise UserError(f"{path} has another size", got=pixels.shape[1:], expected=f"{shape[1:]} of {files[0]}")
            images[index] = pixels / np.float32(255)


def write_subject(
    layout: NSDLayout,
    subject: int,
    *,
    betas: np.ndarray,
    stimulus_ids: np.ndarray,
    is_test: np.ndarray,
    trials_per_session: int,
) -> None:
    """Write the betas and the trials of one subject.

    Args:
        layout: paths of the files.
        subject: number of the subject.
        betas: `(T, V)` floating point in temporal order, z-scored within each session as NSD's are.
        stimulus_ids: `(T,)` integers, the image of each trial.
        is_test: `(T,)` bool, trials of a test image; they are never trained on.
        trials_per_session: trials of every session; the last one may have fewer.

    Raises:
        UserError: if the arrays differ in length, or an image is both trained on and tested.
    """
    if not len(betas) == len(stimulus_ids) == len(is_test):
        got = f"{len(betas)} betas, {len(stimulus_ids)} stimulus ids, {len(is_test)} test marks"
        raise UserError(f"subject {subject} has arrays of different lengths", got=got, expected="one entry per trial")
    if len(both := np.intersect1d(stimulus_ids[is_test], stimulus_ids[~is_test])):
        raise UserError(f"subject {subject} has an image that is both trained on and tested", got=f"image {both[0]}")
    with h5py.File(layout.betas(subject), "w") as file:
        file.create_dataset("betas", data=betas, dtype=np.float32)
    trials = np.arange(len(betas))
    write_shards(layout, subject, Design.from_trials(subject, trials, stimulus_ids, is_test, trials_per_session))
