"""Arrays of single-trial betas: `.npy`, hdf5, MATLAB and NIfTI files, read in blocks.

GLMsingle's results have the betas as `betasmd` (Python) or `modelmd` (MATLAB), (X, Y, Z, T) or (V, 1, 1, T); other
arrays are (T, V) or (X, Y, Z, T). MATLAB's hdf5 files have the axes in the opposite order. Where the usual axis of the
trials does not have the number of the events' trials, the opposite one is taken. Pickles are refused.

Legend: T trials, V voxels, v chosen ones, X, Y, Z sizes of a volume.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset, open_hdf5
from mindeye_pl.data.own.folder import TUTORIAL
from mindeye_pl.data.own.nifti import Nifti
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Names of GLMsingle's single-trial betas, and of other arrays.
_GLMSINGLE, _OTHERS = ("betasmd", "modelmd"), ("betas",)
_BLOCK_BYTES = 64 * 2**20
_SAVE = "np.save('sub-01_ses-01_betas.npy', results['typed']['betasmd']) where it was made, or GLMsingle's wanthdf5"


class _Opened(NamedTuple):
    """An array in the order of its file, and what is known of its axes."""

    array: Any  # of numpy or h5py, or a `Nifti`
    is_glmsingle: bool = False
    is_reversed: bool = False  # MATLAB's axes, the last one first
    affine: np.ndarray | None = None


@dataclass(frozen=True)
class BetasFile:
    """One array of betas.

    Attributes:
        path: of the file.
        dataset: its name in an hdf5 or MATLAB file.
        volume: X, Y and Z; None where the voxels have no positions.
        num_trials: T.
        num_voxels: V, all of the array.
        affine: `(4, 4)` of a NIfTI file.
        trials_first: the first axis in the file is that of the trials; otherwise the last one.
        is_reversed: axes of the volume are Z, Y, X.
    """

    path: Path
    dataset: str | None
    volume: tuple[int, int, int] | None
    num_trials: int
    num_voxels: int
    affine: np.ndarray | None
    trials_first: bool
    is_reversed: bool

    @classmethod
    def of(cls, path: Path, num_trials: int, dataset: str | None = None) -> "BetasFile":
        """Read the header of a file whose events have `num_trials` trials.

        Raises a UserError if it is damaged, a pickle or no array of numbers, or has another number of trials.
        """
        with _opened(path, dataset) as opened:
            shape, kind = tuple(opened.array.shape), opened.array.dtype
            if kind.kind not in "fiu":
                raise UserError(f"{path} holds no real numbers", got=kind, expected="floats or integers")
            if len(shape) not in (2, 4) or 0 in shape:
                raise UserError(f"{path} is no array of betas", got=shape, expected="(trials, V) or (X, Y, Z, trials)")
            usually_last = (len(shape) == 4 or opened.is_glmsingle) != opened.is_reversed
            usual, other = (shape[-1], shape[0]) if usually_last else (shape[0], shape[-1])
            if opened.is_reversed and len(shape) == 4:  # the opposite of MATLAB's (X, Y, Z, T) is no usual array
                other = usual
            if num_trials not in (usual, other):
                what = f"{path} has another number of trials than its events"
                fix = "betas and events of the same runs; rows without an image have n/a"
                raise UserError(what, got=f"{usual} in an array of {shape}", expected=f"{num_trials}", fix=fix)
            trials_first = usually_last != (usual == num_trials)
            sizes = shape[1:] if trials_first else shape[:-1]
            volume = sizes[::-1] if opened.is_reversed else sizes
            flat = len(volume) == 1 or max(volume) == np.prod(volume)  # GLMsingle's (V, 1, 1) has no positions
            return cls(
                path,
                dataset,
                None if flat else volume,
                num_trials,
                int(np.prod(volume)),
                opened.affine,
                trials_first,
                opened.is_reversed,
            )

    def read(self, rows: slice, voxels: np.ndarray) -> np.ndarray:
        """Return betas `(t, v)` float32 of consecutive trials and of voxels `(v,)` in ascending order."""
        with _opened(self.path, self.dataset) as opened:
            read = self._trials_first if self.trials_first else self._trials_last
            array = opened.array.values() if isinstance(opened.array, Nifti) else opened.array  # no blocks of gzip
            return read(array, rows, voxels)

    def _trials_first(self, array: Any, rows: slice, voxels: np.ndarray) -> np.ndarray:
        found = np.empty((rows.stop - rows.start, len(voxels)), np.float32)
        step = max(1, _BLOCK_BYTES // (4 * self.num_voxels))
        for start in range(rows.start, rows.stop, step):
            part = np.asarray(array[start : min(start + step, rows.stop)])  # (t, V) or (t, X, Y, Z)
            if self.is_reversed:
                part = part.transpose(0, *range(part.ndim - 1, 0, -1))
            found[start - rows.start : start - rows.start + len(part)] = part.reshape(len(part), -1)[:, voxels]
        return found

    def _trials_last(self, array: Any, rows: slice, voxels: np.ndarray) -> np.ndarray:
        found = np.empty((rows.stop - rows.start, len(voxels)), np.float32)
        per_slice = self.num_voxels // array.shape[0]
        step = max(1, _BLOCK_BYTES // (4 * per_slice * self.num_trials))
        for start in range(0, array.shape[0], step):
            first, last = np.searchsorted(voxels, (start * per_slice, (start + step) * per_slice))
            if first < last:
                part = np.asarray(array[start : start + step, ..., rows]).reshape(-1, len(found))  # (v', t)
                found[:, first:last] = part[voxels[first:last] - start * per_slice].T
        return found


@contextmanager
def _opened(path: Path, dataset: str | None) -> Iterator[_Opened]:
    """Open an array without reading it, but for MATLAB's old format; errors as `BetasFile.of`."""
    check_regular(path)
    if path.name.endswith((".nii", ".nii.gz")):
        image = Nifti(path)
        yield _Opened(image, affine=image.affine)
    elif path.suffix == ".npy":
        yield _Opened(_load_npy(path))
    elif path.suffix == ".mat" and not h5py.is_hdf5(path):
        yield _load_matlab(path, dataset)
    else:
        name = _dataset_name(path, dataset)
        try:
            with open_dataset(path, name) as found:
                yield _Opened(found, name in _GLMSINGLE, "MATLAB_class" in found.attrs)
        except UserError as error:  # its own advice is about files of NSD
            raise UserError(error.what, got=error.got, expected=error.expected, fix="export it again") from error


def _load_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if read(file)[2].hasobject:
                raise _pickled(path)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        with path.open("rb") as file:
            if file.read(1) == b"\x80":  # the mark of pickle's protocols
                raise _pickled(path) from error
        raise UserError(f"{path} is damaged or no .npy file", got=error, fix="export it again") from error


def _pickled(path: Path) -> UserError:
    what, got = f"{path} is a pickle, which may run any code when it is read", "a pickled dict, GLMsingle's default"
    return UserError(what, got=got, expected="an array of numbers", fix=f"{_SAVE} ({TUTORIAL})")


def _load_matlab(path: Path, dataset: str | None) -> _Opened:
    """Load one variable of a MATLAB file before version 7.3."""
    from scipy.io import loadmat, whosmat

    try:
        names = [name for name, shape, _ in whosmat(path) if len(shape) in (2, 4)]
        name = _choose(path, names, dataset)
        return _Opened(np.asarray(loadmat(path, variable_names=[name])[name]), name in _GLMSINGLE)
    except (ValueError, NotImplementedError, OSError, TypeError, EOFError) as error:
        raise UserError(f"{path} is damaged or no MATLAB file", got=error, fix="export it again, -v7.3") from error


def _dataset_name(path: Path, dataset: str | None) -> str:
    try:
        with open_hdf5(path) as file:
            return _choose(path, [name for name, one in file.items() if _is_array(one)], dataset)
    except OSError as error:
        raise UserError(f"{path} is truncated or not an hdf5 file", got=error) from error


def _is_array(found: Any) -> bool:
    return isinstance(found, h5py.Dataset) and found.shape is not None and len(found.shape) in (2, 4)


def _choose(path: Path, names: list[str], dataset: str | None) -> str:
    """Return the name of the betas among those of a file: the given one, GLMsingle's, `betas`, or the only one."""
    wanted = (*_GLMSINGLE, *_OTHERS) if dataset is None else (dataset,)
    found = [name for name in wanted if name in names]
    if dataset is None and not found and len(names) == 1:
        found = names
    if not found:
        got = ", ".join(names[:6]) or "no array of two or four axes"
        raise UserError(f"{path} has no betas", got=got, expected=" or ".join(wanted), fix="own.dataset=NAME")
    return found[0]
