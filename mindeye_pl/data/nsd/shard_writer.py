"""Writer of tar shards of behaviour arrays in MindEye2's format (spec section 1.2)."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.design import Design, gather_neighbours, gather_olds
from mindeye_pl.data.nsd.layout import NSDLayout

#: Number of final sessions that the older test split excludes.
_OLD_TEST_EXCLUDED_SESSIONS = 3
#: Trials whose neighbours are gathered at once, 4 MB of them.
_TRIALS_PER_BLOCK = 512


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
