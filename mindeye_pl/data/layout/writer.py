"""Writer of a dataset in MindEye2's file layout (spec section 1.2), also for conversions (docs/extending.md)."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.image_sources import read_pixels
from mindeye_pl.data.layout.behaviour import FUTURE_TRIALS, PAST_TRIALS
from mindeye_pl.data.layout.design import Design, gather_neighbours, gather_olds
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.errors import UserError

#: Trials whose neighbours are gathered at once, 4 MB of them.
_TRIALS_PER_BLOCK = 512


def write_images(layout: DataLayout, files: Sequence[Path]) -> None:
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
    layout: DataLayout,
    subject: int,
    *,
    betas: np.ndarray,
    stimulus_ids: np.ndarray,
    is_test: np.ndarray,
    sessions: np.ndarray,
) -> None:
    """Write the betas and the trials of one subject, the test images as the split `new_test`.

    Args:
        layout: paths of the files.
        subject: number of the subject.
        betas: `(T, V)` floating point in temporal order, z-scored within each session as NSD's are.
        stimulus_ids: `(T,)` integers, the image of each trial.
        is_test: `(T,)` bool, trials of a test image; they are never trained on.
        sessions: `(T,)` integers from 1, ascending.

    Raises a UserError as `write_trials`, or if there are not as many betas as trials.
    """
    if len(betas) != len(stimulus_ids):
        got = f"{len(betas)} betas, {len(stimulus_ids)} stimulus ids"
        raise UserError(f"subject {subject} has arrays of different lengths", got=got, expected="one entry per trial")
    write_trials(layout, subject, stimulus_ids=stimulus_ids, is_test=is_test, sessions=sessions)
    write_betas(layout, subject, betas.shape, [betas])


def write_betas(layout: DataLayout, subject: int, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write betas of a shape (T, V) that come in parts `(t, V)`, each in memory in its turn, sessions for example."""
    with open_hdf5(layout.betas(subject), "w") as file:
        betas, first = file.create_dataset("betas", shape, np.float32), 0
        for part in parts:
            betas[first : first + len(part)] = part
            first += len(part)
        assert first == len(betas), f"{first} betas of {len(betas)}"


def write_trials(
    layout: DataLayout, subject: int, *, stimulus_ids: np.ndarray, is_test: np.ndarray, sessions: np.ndarray
) -> None:
    """Write the training and test shards of one subject; arguments as `write_subject`.

    Raises a UserError if the arrays differ in length, sessions are not in order, or an image is both trained on and
    tested.
    """
    if not len(stimulus_ids) == len(is_test) == len(sessions):
        got = f"{len(stimulus_ids)} stimulus ids, {len(is_test)} test marks, {len(sessions)} sessions"
        raise UserError(f"subject {subject} has arrays of different lengths", got=got, expected="one entry per trial")
    if not np.array_equal(np.unique(sessions), np.arange(1, sessions.max() + 1)) or (np.diff(sessions) < 0).any():
        got = np.unique(sessions)[:5].tolist()
        raise UserError(f"subject {subject} has sessions out of order", got=got, expected="1, 2, ..., in time")
    if len(both := np.intersect1d(stimulus_ids[is_test], stimulus_ids[~is_test])):
        raise UserError(f"subject {subject} has an image that is both trained on and tested", got=f"image {both[0]}")
    design = Design.from_trials(subject, np.arange(len(sessions)), stimulus_ids, is_test, sessions)
    write_training_shards(layout, subject, design)
    write_shard(layout.shard(subject, "new_test"), design, design.test_trials)


def write_training_shards(layout: DataLayout, subject: int, design: Design) -> None:
    """Write the training shards of a subject, one per session."""
    training = design.training_trials
    for index in range(design.num_sessions):
        first, last = np.searchsorted(design.sessions[training], (index + 1, index + 2))
        write_shard(layout.shard(subject, "train", index), design, training[first:last], first_number=first)


def write_shard(path: Path, design: Design, trials: np.ndarray, first_number: int = 0) -> None:
    """Write the behaviour of trials `(n,)`, ascending rows of the design, as samples numbered from `first_number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for start in range(0, len(trials), _TRIALS_PER_BLOCK):
            block = trials[start : start + _TRIALS_PER_BLOCK]
            members = {
                "behav": design.behaviour[block, None],
                "future_behav": gather_neighbours(design, block, 1 + np.arange(FUTURE_TRIALS)),
                "olds_behav": gather_olds(design, block),
                "past_behav": gather_neighbours(design, block, -1 - np.arange(PAST_TRIALS)),
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
