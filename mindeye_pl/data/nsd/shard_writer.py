"""Writer of tar shards of behaviour arrays in MindEye2's format (spec section 1.2)."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mindeye_pl.data.nsd.design import Design, gather_future, gather_olds, gather_past
from mindeye_pl.data.nsd.layout import NSDLayout

#: Number of final sessions that the older test split excludes.
_OLD_TEST_EXCLUDED_SESSIONS = 3
#: Trials whose neighbours are gathered at once, 4 MB of them.
_TRIALS_PER_BLOCK = 512


def write_shards(layout: NSDLayout, subject: int, design: Design) -> None:
    """Write the training shards, one per session, and both test shards of a subject.

    Samples are numbered over the whole split.
    """
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
    """Write the behaviour of some trials.

    Args:
        path: of the shard.
        design: of the subject's experiment.
        trials: `(n,)` rows of the design, ascending.
        first_number: number of the first sample.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for start in range(0, len(trials), _TRIALS_PER_BLOCK):
            block = trials[start : start + _TRIALS_PER_BLOCK]
            members = {
                "behav": design.behaviour[block, None],
                "future_behav": gather_future(design, block),
                "olds_behav": gather_olds(design, block),
                "past_behav": gather_past(design, block),
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
