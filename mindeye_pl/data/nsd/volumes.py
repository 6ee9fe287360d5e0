"""Volumes of NSD's release: masks and maps, and the responses of one session, read without the whole file in memory.

Axes are X, Y, Z of the NIfTI files, and voxels are selected in numpy's C order of these (z changes fastest), as
MindEye2's preparation does. Responses are int16, percent signal change times 300 (NSD data manual, "Functional data").

Legend: T trials of a session, V selected voxels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset
from mindeye_pl.data.nifti import open_nifti, reading_nifti
from mindeye_pl.errors import UserError

#: Factor of the stored responses.
SCALE = 300

#: Largest difference between two affines of one space, in mm.
_AFFINE_TOLERANCE = 1e-3

_INT16 = "int16, percent signal change times 300"


@dataclass(frozen=True)
class Volume:
    """Values of a NIfTI file and where they are in space."""

    path: Path
    values: np.ndarray  # (X, Y, Z)
    affine: np.ndarray  # (4, 4)

    def check_same_space(self, path: Path, shape: tuple[int, ...], affine: np.ndarray | None) -> None:
        """Raise a UserError if a file has another shape or, where it has one, another affine."""
        fix = "use files of one space and preparation, func1pt8mm"
        if tuple(shape) != self.values.shape:
            what = f"{path} has another shape than {self.path}"
            raise UserError(what, got=tuple(shape), expected=self.values.shape, fix=fix)
        if affine is not None and not np.allclose(affine, self.affine, atol=_AFFINE_TOLERANCE, rtol=0):
            what = f"{path} has another affine than {self.path}"
            raise UserError(what, got=_in_words(affine), expected=_in_words(self.affine), fix=fix)


def _in_words(affine: np.ndarray) -> str:
    return np.array2string(affine[:3], precision=4, separator=",").replace("\n", "")


def read_volume(path: Path) -> Volume:
    """Read a volume of numbers, float64; raises a UserError if it is missing, damaged or no NIfTI volume."""
    image = open_nifti(path)
    with reading_nifti(path):
        values = np.asarray(image.dataobj, np.float64)
    if values.ndim != 3:
        raise UserError(f"{path} is not a volume", got=values.shape, expected="(X, Y, Z)")
    return Volume(path, values, image.affine)


class Session(ABC):
    """Responses of one session on disk."""

    path: Path
    shape: tuple[int, ...]  # (X, Y, Z)
    num_trials: int
    affine: np.ndarray | None  # (4, 4), where the file has one

    @abstractmethod
    def read(self, mask: np.ndarray) -> np.ndarray:
        """Return the stored responses `(T, V)` int16 of the voxels of a bool mask `(X, Y, Z)`."""

    @abstractmethod
    def varying(self) -> np.ndarray:
        """Return the voxels that do not have one value in all trials, `(X, Y, Z)` bool."""


def open_session(path: Path) -> Session:
    """Read the header of a session's file and check that it holds responses.

    Raises a UserError if the file is missing or damaged, has another number of axes, or is not int16.
    """
    return Hdf5Session(path) if path.suffix == ".hdf5" else NiftiSession(path)


class NiftiSession(Session):
    """A NIfTI file of (X, Y, Z, T), read one trial after the other: a compressed file can only be read forwards."""

    def __init__(self, path: Path):
        self.path, image = path, open_nifti(path)
        stored: Any = image.dataobj
        if len(stored.shape) != 4:
            raise UserError(f"{path} does not hold betas", got=stored.shape, expected="(X, Y, Z, trials)")
        dtype = stored.dtype
        if (dtype.kind, dtype.itemsize) != ("i", 2) or (stored.slope, stored.inter) != (1, 0):
            got = f"{dtype.name}, slope {stored.slope:g}, intercept {stored.inter:g}"
            raise UserError(f"{path} does not hold betas as NSD stores them", got=got, expected=_INT16)
        self.shape, self.num_trials, self.affine = stored.shape[:3], stored.shape[3], image.affine
        self._dtype, self._offset = dtype, stored.offset

    def read(self, mask: np.ndarray) -> np.ndarray:
        """Return the stored responses, as `Session.read`."""
        voxels = np.ravel_multi_index(np.nonzero(mask), self.shape, order="F")  # C order of the mask, places in a file
        betas = np.empty((self.num_trials, len(voxels)), np.int16)
        for trial, volume in enumerate(self._trials()):
            betas[trial] = volume[voxels]
        return betas

    def varying(self) -> np.ndarray:
        """Return the voxels that vary, as `Session.varying`."""
        trials = self._trials()
        first = next(trials)
        varying = np.zeros(len(first), bool)
        for volume in trials:
            varying |= volume != first
        return varying.reshape(self.shape, order="F")

    def _trials(self) -> Iterator[np.ndarray]:
        """Yield the volumes in Fortran order, `(X * Y * Z,)`; the last read compares a compressed file's checksum."""
        from nibabel.openers import ImageOpener

        num_bytes = int(np.prod(self.shape)) * self._dtype.itemsize
        with reading_nifti(self.path), ImageOpener(str(self.path)) as file:
            file.read(self._offset)
            for _ in range(self.num_trials):
                content = file.read(num_bytes)
                if len(content) < num_bytes:
                    raise EOFError("it ends within a trial")
                yield np.frombuffer(content, self._dtype)
            file.read(1)


class Hdf5Session(Session):
    """An hdf5 file with the dataset `betas`.

    MATLAB wrote X, Y, Z, T with chunks of one voxel; h5py reads the axes of such a file as (T, Z, Y, X).
    """

    affine = None

    def __init__(self, path: Path):
        self.path = path
        with open_dataset(path, "betas") as betas:
            if betas.ndim != 4:
                raise UserError(f"{path} does not hold betas", got=betas.shape, expected="(trials, Z, Y, X)")
            if (betas.dtype.kind, betas.dtype.itemsize) != ("i", 2):
                raise UserError(f"{path} does not hold betas as NSD stores them", got=betas.dtype, expected=_INT16)
            self.shape, self.num_trials = betas.shape[:0:-1], betas.shape[0]

    def read(self, mask: np.ndarray) -> np.ndarray:
        """Return the stored responses, as `Session.read`; of a plane, only the rectangle around its voxels is read."""
        x, y, z = np.nonzero(mask)
        read = np.empty((self.num_trials, len(x)), np.int16)
        with open_dataset(self.path, "betas") as betas:
            for plane in np.unique(z):
                (voxels,) = np.nonzero(z == plane)
                left, top = x[voxels].min(), y[voxels].min()
                rectangle = betas[:, plane, top : y[voxels].max() + 1, left : x[voxels].max() + 1]
                read[:, voxels] = rectangle[:, y[voxels] - top, x[voxels] - left]
        return read

    def varying(self) -> np.ndarray:
        """Return the voxels that vary, as `Session.varying`."""
        varying = np.empty(self.shape, bool)
        with open_dataset(self.path, "betas") as betas:
            for plane in range(self.shape[2]):
                trials = betas[:, plane]  # (T, Y, X)
                varying[:, :, plane] = (trials != trials[0]).any(0).T
        return varying
