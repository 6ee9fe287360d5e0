"""Partial reading of hdf5 datasets, with one-line errors for damaged files."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EAGAIN
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from mindeye_pl.data.layout.paths import FETCH_AGAIN
from mindeye_pl.errors import UserError
from mindeye_pl.store.locks import UNSUPPORTED
from mindeye_pl.store.regular_files import check_regular

#: A larger dataset that stores less than this ratio (gzip reaches 1032) declares what it does not hold.
_SMALL_BYTES, _LARGEST_RATIO = 64 * 2**20, 1200
#: Maximum size of a read beside the rows that are kept.
_BLOCK_BYTES = 64 * 2**20


def open_hdf5(path: Path, mode: Literal["r", "r+", "w", "a"] = "r", **options: Any) -> h5py.File:
    """Open an hdf5 file; without hdf5's own lock where the file system has none."""
    try:
        return h5py.File(path, mode, **options)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return h5py.File(path, mode, locking=False, **options)


@contextmanager
def open_dataset(path: Path, name: str) -> Iterator[h5py.Dataset]:
    """Open dataset `name` of a file. The file is closed afterwards, so that data-loader workers never share a handle.

    Raises a UserError if the file is missing, truncated, not hdf5, or has no such dataset of numbers of its own.
    """
    with _opened(path, f"the dataset {name}") as file:
        yield _own_dataset(path, file, name)


def names_in(path: Path, group: str) -> list[str]:
    """Return the names in a group, alphabetically; errors as `open_dataset`."""
    with _opened(path, f"the group {group}") as file:
        found = file.get(group)
        if not isinstance(found, h5py.Group):
            raise UserError(f"{path} has no group {group}", got=sorted(file), expected=group, fix=FETCH_AGAIN)
        return sorted(found)


@contextmanager
def _opened(path: Path, expected: str) -> Iterator[h5py.File]:
    if not check_regular(path).is_file():
        raise UserError(f"{path} is missing", expected=f"an hdf5 file with {expected}", fix=FETCH_AGAIN)
    try:
        with open_hdf5(path) as file:
            yield file
    except OSError as error:
        if error.errno == EAGAIN:
            fix = "wait until it is closed; HDF5_USE_FILE_LOCKING=FALSE reads it nevertheless"
            raise UserError(f"{path} is open for writing in another process", fix=fix) from error
        raise UserError(f"{path} is truncated or not an hdf5 file", got=error, fix=FETCH_AGAIN) from error


def _own_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    found = None
    with suppress(KeyError, RuntimeError):  # there is no such name, or it is a link that leads nowhere
        found = file[name]
    if found is None:
        raise UserError(f"{path} has no dataset {name}", got=sorted(file), expected=name, fix=FETCH_AGAIN)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{path}: {name} is not a dataset", got=type(found).__name__, expected="a dataset")
    if found.external or found.file.filename != file.filename:
        elsewhere = found.external[0][0] if found.external else found.file.filename
        raise UserError(f"{path}: {name} is in another file", got=elsewhere, expected="a dataset")
    if found.dtype.kind not in "biuf":
        raise UserError(f"{path}: {name} holds no numbers", got=found.dtype, expected="integers or floats")
    if found.nbytes > max(_SMALL_BYTES, _LARGEST_RATIO * found.id.get_storage_size()):
        stored = f"{found.shape} in {found.id.get_storage_size()} bytes"
        raise UserError(f"{path}: {name} is not whole", got=stored, expected=f"{found.nbytes} bytes", fix=FETCH_AGAIN)
    return found


def read_rows(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Read rows `(n,)` of a dataset `(N, ...)`, in any order, repeats allowed; `(n, ...)` in the dataset's dtype.

    Byte orders of other machines are converted. Contiguous runs are read as blocks: hdf5's own fancy indexing needs
    strictly increasing rows and takes minutes for the thousands of rows of a subject. In a chunked dataset, gaps within
    a chunk are read too, because a chunk is decompressed as a whole anyway.
    """
    distinct, inverse = np.unique(rows, return_inverse=True)
    kept = np.empty((len(distinct), *dataset.shape[1:]), dataset.dtype.newbyteorder("="))
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    gap = dataset.chunks[0] if dataset.chunks else 1
    for first, last in _runs(distinct, gap, max(1, _BLOCK_BYTES // row_bytes)):
        start, stop = distinct[first], distinct[last - 1] + 1
        kept[first:last] = dataset[start:stop][distinct[first:last] - start]
    in_order = len(distinct) == len(rows) and np.array_equal(distinct, rows)
    return kept if in_order else kept[inverse]  # avoids a second copy of up to 2 GB in the common case


def _runs(rows: np.ndarray, gap: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield bounds `[first, last)` of runs of ascending rows, split at gaps larger than `gap`."""
    first = 0
    for end in np.append(np.flatnonzero(np.diff(rows) > gap) + 1, len(rows)):
        while first < end:
            last = min(int(end), int(np.searchsorted(rows, rows[first] + longest)))
            yield first, last
            first = last
