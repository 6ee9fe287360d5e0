"""A small world for statistics, and readers of its files that share nothing with the package's."""

import io
import tarfile
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.simulated.world import SimulationSettings

#: Enough trials for statistics, with subjects of different length as in NSD.
SMALL = SimulationSettings(
    name="small",
    seed=5,
    voxel_counts={1: 60, 4: 40},
    num_sessions={1: 8, 4: 6},
    trials_per_session=150,
    repetitions=3,
    num_shared=80,
    image_size=16,
    figure_gain=1.0,
    noise_level=1.0,
    noise_spread=0.4,
    correlated_noise=0.1,
    session_drift=0.2,
)


def read_shard(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return arrays by sample and kind, in the shard's order."""
    samples: dict[str, dict[str, np.ndarray]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            sample, kind, suffix = member.name.split(".")
            assert suffix == "npy"
            content = tar.extractfile(member)
            assert content is not None
            samples.setdefault(sample, {})[kind] = np.load(io.BytesIO(content.read()), allow_pickle=False)
    return samples


@cache
def shard(path: Path) -> dict[str, dict[str, np.ndarray]]:
    return read_shard(path)


def behaviour(layout: DataLayout, subject: int) -> np.ndarray:
    """Return all trials of a subject in temporal order, read from its shards."""
    shards = [shard(layout.shard(subject, "train", index)) for index in range(SMALL.sessions_of(subject))]
    shards.append(shard(layout.shard(subject, "new_test")))
    rows = np.concatenate([sample["behav"] for samples in shards for sample in samples.values()])
    return rows[np.argsort(rows[:, Behaviour.BETA_ROW])]


def betas(layout: DataLayout, subject: int) -> np.ndarray:
    with h5py.File(layout.betas(subject)) as file:
        return file["betas"][:]


def ncsnr(layout: DataLayout, subject: int) -> np.ndarray:
    with h5py.File(layout.ncsnr) as file:
        return file[f"subj0{subject}"][:]
