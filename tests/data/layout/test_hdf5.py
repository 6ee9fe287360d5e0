import errno
import fcntl
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.data.layout import hdf5
from mindeye_pl.data.layout.hdf5 import open_dataset, open_hdf5, read_rows
from mindeye_pl.errors import UserError


class SpyDataset:
    """Array that records which rows are read, with h5py's interface."""

    def __init__(self, array: np.ndarray, chunk_rows: int | None):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = (chunk_rows, 1) if chunk_rows else None
        self.read: list[int] = []

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.read.extend(range(rows.start, rows.stop))
        return self.array[rows]


@given(st.lists(st.integers(0, 29), max_size=40), st.sampled_from([None, 1, 4]), st.sampled_from([1, 100, 2**20]))
def test_read_rows_keeps_the_order_and_reads_each_row_once(rows, chunk_rows, block_bytes):
    spy = SpyDataset(np.arange(90, dtype=np.float32).reshape(30, 3), chunk_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "_BLOCK_BYTES", block_bytes)
        np.testing.assert_array_equal(read_rows(spy, np.array(rows, np.int64)), spy.array[rows])
    assert len(spy.read) == len(set(spy.read))
    if not chunk_rows:
        assert set(spy.read) == set(rows)


@pytest.mark.parametrize("chunks", [None, (4, 2)])
def test_read_rows_of_a_file(tmp_path: Path, chunks):
    array = np.random.default_rng(0).random((30, 3)).astype(np.float16)
    with h5py.File(tmp_path / "file.hdf5", "w") as file:
        file.create_dataset("rows", data=array, chunks=chunks)
    rows = np.array([7, 29, 0, 7, 8])
    with open_dataset(tmp_path / "file.hdf5", "rows") as dataset:
        read = read_rows(dataset, rows)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, array[rows])


def test_damaged_hdf5_files_are_refused(tmp_path: Path):
    path = tmp_path / "file.hdf5"
    with pytest.raises(UserError, match=r"file\.hdf5 is missing"), open_dataset(path, "rows"):
        pass
    with h5py.File(path, "w") as file:
        file["rows"] = np.zeros((100, 100))
    with (
        pytest.raises(UserError, match=r"file\.hdf5 has no dataset other .*got: \['rows'\]"),
        open_dataset(path, "other"),
    ):
        pass
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"file\.hdf5 is truncated"), open_dataset(path, "rows"):
        pass
    path.write_bytes(b"not hdf5")
    with pytest.raises(UserError, match="not an hdf5 file"), open_dataset(path, "rows"):
        pass


def test_a_file_that_is_written_elsewhere(tmp_path: Path):
    """hdf5 holds the lock of the system on a file that it writes."""
    path = tmp_path / "file.hdf5"
    with h5py.File(path, "w") as file:
        file["rows"] = np.zeros(3)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is open for writing in another process"), open_dataset(path, "rows"):
            pass
    with open_dataset(path, "rows") as rows:
        assert len(rows) == 3


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    opened, path = h5py.File, tmp_path / "file.hdf5"

    def without_locks(path: Path, mode: str, locking: bool | None = None, **options: Any) -> h5py.File:
        if locking is not False:
            raise OSError(code, "unable to lock file")
        return opened(path, mode, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_hdf5(path, "w", libver="latest") as file:
        file["rows"] = np.arange(3)
    with open_dataset(path, "rows") as rows:
        assert rows[:].tolist() == [0, 1, 2]
