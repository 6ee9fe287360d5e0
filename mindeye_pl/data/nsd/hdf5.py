"""Rows of an hdf5 dataset: only the rows asked for are read, and a damaged file ends in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.errors import UserError

#: At most this much of a file is in memory beside the rows that are kept.
_BLOCK_BYTES = 64 * 2**20


@contextmanager
def open_dataset(path: Path, name: str) -> Iterator[h5py.Dataset]:
    """Dataset `name` of the file, open as long as the context lasts.

    Nothing stays open between two uses, so that data-loader workers never share a handle.

    Raises:
        UserError: if the file is missing, truncated, no hdf5, or has no such dataset.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing", expected=f"an hdf5 file with the dataset {name}", fix=FETCH_AGAIN)
    try:
        with h5py.File(path, "r") as file:
            if name not in file:
                raise UserError(f"{path} has no dataset {name}", got=sorted(file), expected=name, fix=FETCH_AGAIN)
            yield file[name]
    except OSError as error:
        raise UserError(f"{path} is truncated or no hdf5 file", got=error, fix=FETCH_AGAIN) from error


def read_rows(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows of a dataset in the order asked, `(n, ...)` in the dataset's dtype.

    Contiguous runs are read as blocks: hdf5's own fancy indexing needs strictly increasing rows and takes minutes for
    the thousands of rows of a subject. Of a contiguous dataset no other row is read; of a chunked one, gaps inside a
    chunk are read along, because the chunk is decompressed as a whole anyway.

    Args:
        dataset: `(N, ...)`.
        rows: `(n,)` integers in [0, N), in any order, repeats allowed.
    """
    wanted, place = np.unique(rows, return_inverse=True)
    kept = np.empty((len(wanted), *dataset.shape[1:]), dataset.dtype)
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    gap = dataset.chunks[0] if dataset.chunks else 1
    for first, last in _runs(wanted, gap, max(1, _BLOCK_BYTES // row_bytes)):
        start, stop = wanted[first], wanted[last - 1] + 1
        kept[first:last] = dataset[start:stop][wanted[first:last] - start]
    in_order = len(wanted) == len(rows) and np.array_equal(wanted, rows)
    return kept if in_order else kept[place]  # the common case is spared a second copy of up to 2 GB


def _runs(rows: np.ndarray, gap: int, longest: int) -> Iterator[tuple[int, int]]:
    """Bounds `[first, last)` of the runs of ascending rows, split where neighbours differ by more than `gap`."""
    first = 0
    for end in np.append(np.flatnonzero(np.diff(rows) > gap) + 1, len(rows)):
        while first < end:
            last = min(int(end), int(np.searchsorted(rows, rows[first] + longest)))
            yield first, last
            first = last
