"""Writer of a dataset in MindEye2's file layout (spec section 1.2), also for conversions (docs/extending.md)."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.image_sources import read_pixels
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.design import Design, gather_neighbours, gather_olds
from mindeye_pl.data.nsd.hdf5 import open_hdf5
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError

#: Number of final sessions that the older test split excludes.
_OLD_TEST_EXCLUDED_SESSIONS = 3
#: Trials whose neighbours are gathered at once, 4 MB of them.
_TRIALS_PER_BLOCK = 512


def write_images(layout: NSDLayout, files: Sequence[Path]) -> None:
    """Write image files of one size; an image's index in `files` becomes its stimulus id.

    Raises a UserError if there is no image, a file is damaged, or images differ in size.
    """
    if not files:
        raise UserError("there are no images to convert", expected="at least one image file")
    shape = tuple(read_pixels(files[0]).shape)
    with open_hdf5(layout.stimuli, "w") as file:
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

    Raises a UserError if the arrays differ in length, or an image is both trained on and tested.
    """
    if not len(betas) == len(stimulus_ids) == len(is_test):
        got = f"{len(betas)} betas, {len(stimulus_ids)} stimulus ids, {len(is_test)} test marks"
        raise UserError(f"subject {subject} has arrays of different lengths", got=got, expected="one entry per trial")
    if len(both := np.intersect1d(stimulus_ids[is_test], stimulus_ids[~is_test])):
        raise UserError(f"subject {subject} has an image that is both trained on and tested", got=f"image {both[0]}")
    with open_hdf5(layout.betas(subject), "w") as file:
        file.create_dataset("betas", data=betas, dtype=np.float32)
    trials = np.arange(len(betas))
    write_shards(layout, subject, Design.from_trials(subject, trials, stimulus_ids, is_test, trials_per_session))


def write_shards(layout: NSDLayout, subject: int, design: Design) -> None:
    """Write a subject's training shards, one per session, and both test shards; samples are numbered per split."""
    test = design.test_trials
    write_training_shards(layout, subject, design)
    write_shard(layout.shard(subject, "new_test"), design, test)
    old_test = test[test // design.trials_per_session < design.num_sessions - _OLD_TEST_EXCLUDED_SESSIONS]
    write_shard(layout.shard(subject, "test"), design, old_test)


def write_training_shards(layout: NSDLayout, subject: int, design: Design) -> None:
    """Write the training shards of a subject, one per session."""
    training = design.training_trials
    session = training // design.trials_per_session
    for index in range(design.num_sessions):
        first, last = np.searchsorted(session, (index, index + 1))
        write_shard(layout.shard(subject, "train", index), design, training[first:last], first_number=first)


def write_shard(path: Path, design: Design, trials: np.ndarray, first_number: int = 0) -> None:
    """Write the behaviour of trials `(n,)`, ascending rows of the design, as samples numbered from `first_number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for start in range(0, len(trials), _TRIALS_PER_BLOCK):
            block = trials[start : start + _TRIALS_PER_BLOCK]
            members = {
                "behav": design.behaviour[block, None],
                "future_behav": gather_neighbours(design, block, 1 + np.arange(nsd.FUTURE_TRIALS)),
                "olds_behav": gather_olds(design, block),
                "past_behav": gather_neighbours(design, block, -1 - np.arange(nsd.PAST_TRIALS)),
            }
            _add_samples(tar, members, range(first_number + start, first_number + start + len(block)))


def _add_samples(tar: tarfile.TarFile, members: dict[str, np.ndarray], numbers: Iterable[int]) -> None:
    headers = {name: _npy_header(arrays[0]) for name, arrays in members.items()}
    for index, number in enumerate(numbers):
        for name, arrays in members.items():
            content = headers[name] + arrays[index].tobytes()
            member = tarfile.TarInfo(f"sample{number:09d}.{name}.npy")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _npy_header(array: np.ndarray) -> bytes:
    """Return the header of an `.npy` file of this shape, created once for thousands of members."""
    content = io.BytesIO()
    np.save(content, np.zeros_like(array))
    return content.getvalue()[: -array.nbytes]
