"""Determinism and memory of a simulation."""

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from mindeye_pl.data.simulated.world import simulate_nsd
from tests.data.simulated.small_world import SMALL


def hashes(root: Path) -> dict[str, str]:
    """Return the hashes of all arrays and files below the folder."""
    found = {}

    def add(name: str, content: bytes) -> None:
        found[name] = hashlib.sha256(content).hexdigest()

    for path in sorted(root.rglob("*")):
        if path.suffix == ".hdf5":
            with h5py.File(path) as file:
                arrays: dict[str, h5py.Dataset] = {}
                file.visititems(
                    lambda key, item, into=arrays: into.update({key: item} if isinstance(item, h5py.Dataset) else {})
                )
                for key, item in arrays.items():
                    add(f"{path.name}/{key} {item.shape} {item.dtype}", item[()].tobytes())
        elif path.is_file():
            add(str(path.relative_to(root)), path.read_bytes())
    return found


def test_number_of_workers_changes_nothing(tiny_settings, tiny_nsd, tmp_path):
    simulate_nsd(tiny_settings, tmp_path / "two", workers=2, progress=False)
    assert hashes(tmp_path / "two") == hashes(Path(tiny_nsd))


def test_seed_changes_the_world(tiny_settings, tiny_nsd, tmp_path):
    simulate_nsd(replace(tiny_settings, seed=1), tmp_path / "other", workers=0, progress=False)
    other, same = hashes(tmp_path / "other"), hashes(Path(tiny_nsd))
    assert other.keys() == same.keys()
    equal = {name for name in same if same[name] == other[name]}
    assert {name for name in equal if "nsd_general" not in name} == set()


@pytest.mark.slow
def test_memory_does_not_grow_with_sessions(tmp_path):
    """Twice the sessions need no more memory; the whole betas matrix is never in memory."""

    # More images than one block of responses, so that only memory per session could grow.
    settings = replace(
        SMALL, subjects=(), voxel_counts={1: 1500}, num_sessions=3, trials_per_session=300, num_shared=20
    )

    def peak(num_sessions: int) -> int:
        tracemalloc.start()
        simulate_nsd(
            replace(settings, num_sessions=num_sessions), tmp_path / str(num_sessions), workers=0, progress=False
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1)  # warm up the caches: filters, reference scenes
    short, long = peak(3), peak(6)
    betas_growth = 3 * 300 * 1500 * 4
    assert long - short < betas_growth / 3
