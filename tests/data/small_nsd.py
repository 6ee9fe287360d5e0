"""Writer of small datasets in MindEye2's layout, independent of the package's writer."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import Trials

NUM_STIMULI = 80
NUM_SHARED = 6
TRIALS_PER_SESSION = 20


def write_stimuli(layout: DataLayout) -> None:
    with h5py.File(layout.stimuli, "w") as file:
        images = np.random.default_rng(0).random((NUM_STIMULI, 3, 4, 4))
        images[:, 0, 0, 0] = np.arange(NUM_STIMULI) / 128  # each image encodes its id
        file["images"] = images.astype(np.float16)


def write_subject(layout: DataLayout, subject: int, design: np.ndarray, num_voxels: int) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(100 + subject)
    num_sessions, length = design.shape
    with h5py.File(layout.betas(subject), "w") as file:
        betas = rng.normal(2, 3, (design.size, num_voxels)).astype(np.float32)
        betas[:, 0] = np.arange(design.size)  # each trial encodes its row
        file["betas"] = betas
    test, old_test, counts = [], [], {True: 0, False: 0}
    for session in range(num_sessions):
        train = []
        for trial, stimulus in enumerate(design[session]):
            shared = bool(stimulus < NUM_SHARED)
            row = np.full(17, -1.0)
            row[[0, 1, 2, 5, 16]] = stimulus, subject, session + 1, session * length + trial, shared
            sample = (counts[shared], row)
            counts[shared] += 1
            (test if shared else train).append(sample)
            if shared and session < num_sessions - 1:
                old_test.append(sample)
        write_shard(layout.shard(subject, "train", session), train)
    write_shard(layout.shard(subject, "new_test"), test)
    write_shard(layout.shard(subject, "test"), old_test)


def write_shard(path: Path, samples: Iterable[tuple[int, np.ndarray]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, row in samples:
            add_array(tar, f"sample{number:09d}.behav.npy", row[None])
            for name, rows in (("future_behav", 15), ("olds_behav", 3), ("past_behav", 15)):
                add_array(tar, f"sample{number:09d}.{name}.npy", np.full((rows, 17), -7.0))


def add_array(tar: tarfile.TarFile, name: str, array: np.ndarray) -> None:
    data = io.BytesIO()
    np.save(data, array)
    member = tarfile.TarInfo(name)
    member.size = data.tell()
    data.seek(0)
    tar.addfile(member, data)


def make_trials(stimulus_ids: np.ndarray, per_session: int, subject: int = 1) -> Trials:
    """Return trials in memory, divided into sessions."""
    count = np.arange(len(stimulus_ids))
    return Trials(subject, np.asarray(stimulus_ids, np.int64), count, 1 + count // per_session)


class StubTokens:
    """Token source whose tokens are the stimulus ids."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        return np.broadcast_to(ids[:, None, None], (len(ids), 2, 3)).astype(np.float16)
