"""Positions of a subject's voxels in a volume, read from a NIfTI mask, and values of voxels as NIfTI images.

Legend: V voxels of one subject, X, Y, Z sizes of the volume.
"""

import gzip
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.data.nifti import open_nifti, reading_nifti
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import replacing

if TYPE_CHECKING:
    from nibabel import Nifti1Image

SET_MASK = "copy the mask that the betas were taken from (docs/brain_maps.md)"

#: NSD's largest volume, at 1 mm, has 5 million; a header that declares more is damaged.
_MAX_VOLUME = 2**27


@dataclass(frozen=True)
class BrainMask:
    """Positions of a subject's voxels, in the order of the betas' columns.

    Attributes:
        indices: `(V, 3)` int64, position of each voxel in the volume.
        shape: X, Y and Z.
        affine: `(4, 4)` float64, from positions to the scanner's or atlas' coordinates in mm (NIfTI: x to the right, y
            to the front, z up).
    """

    indices: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray

    @classmethod
    def at(cls, positions: np.ndarray, shape: tuple[int, ...], affine: np.ndarray) -> "BrainMask":
        """Return the mask of positions `(V,)` in the C order of a volume (X, Y, Z)."""
        x, y, z = shape
        return cls(np.stack(np.unravel_index(positions, (x, y, z)), axis=1).astype(np.int64), (x, y, z), affine)

    @property
    def num_voxels(self) -> int:
        """Number of voxels, V."""
        return len(self.indices)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Centre of each voxel in mm, `(V, 3)` float64."""
        return self.indices @ self.affine[:3, :3].T + self.affine[:3, 3]

    @property
    def is_in_c_order(self) -> bool:
        """True if the voxels are in the C order of the volume, the last axis fastest."""
        return bool((np.diff(np.ravel_multi_index(tuple(self.indices.T), self.shape)) > 0).all())

    def volume(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Return `(X, Y, Z)` with the values `(V,)` of the voxels, `fill` elsewhere; int8 for int8, else float32."""
        assert values.shape == (self.num_voxels,), f"{values.shape} for {self.num_voxels} voxels"
        volume = np.full(self.shape, fill, np.int8 if values.dtype == np.int8 else np.float32)
        volume[tuple(self.indices.T)] = values
        return volume

    def voxels(self, volume: np.ndarray) -> np.ndarray:
        """Return the values `(V,)` of the voxels in a volume `(X, Y, Z)`, the inverse of `volume`."""
        assert volume.shape == self.shape, f"volume {volume.shape}, mask {self.shape}"
        return volume[tuple(self.indices.T)]

    def image(self, values: np.ndarray, description: str = "", *, fill: float = np.nan) -> "Nifti1Image":
        """Return `volume(values, fill)` as a NIfTI image; the header's description has room for 79 bytes."""
        return _image(self.volume(values, fill), self.affine, description)


def read_brain_mask(path: Path, num_voxels: int) -> BrainMask:
    """Read the positions of the voxels of the betas' columns.

    In MindEye2's preparation, columns are the volume's voxels in C order where the mask is positive (spec of MindEye2,
    section 1.6); NSD's own `nsdgeneral.nii.gz` is such a file. A file whose positive values are 1 to V, each once,
    numbers the columns instead: the voxel of value i is column i - 1.

    Args:
        path: a NIfTI file with one three-dimensional volume.
        num_voxels: V, columns of the betas.

    Raises:
        UserError: if the file is missing or no NIfTI volume, its affine does not tell positions, or it has another
            number of voxels.
    """
    values, affine = _read_volume(path)
    positions = np.flatnonzero(values > 0)  # C order; NaN is not positive
    if len(positions) != num_voxels:
        raise UserError(
            f"{path} does not fit the betas",
            got=f"{len(positions)} voxels above 0",
            expected=f"{num_voxels}, the betas' columns",
            fix=SET_MASK,
        )
    numbers = values.ravel()[positions]
    if np.array_equal(np.sort(numbers), np.arange(1, num_voxels + 1)):
        positions = positions[np.argsort(numbers)]
    return BrainMask.at(positions, values.shape, affine)


def write_brain_mask(path: Path, mask: BrainMask) -> None:
    """Write the positions atomically, one file for equal masks: 0 and 1 in C order, else the columns' numbers."""
    numbers = np.ones(mask.num_voxels) if mask.is_in_c_order else np.arange(1, mask.num_voxels + 1)
    volume = np.zeros(mask.shape, np.int8 if mask.is_in_c_order else np.int32)
    volume[tuple(mask.indices.T)] = numbers
    path.parent.mkdir(exist_ok=True)
    write_nifti(path, _image(volume, mask.affine, "voxels of the betas"))


def write_nifti(path: Path, image: "Nifti1Image") -> None:
    """Write an image as `.nii.gz`, atomically; equal images make equal files."""
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def _image(volume: np.ndarray, affine: np.ndarray, description: str) -> "Nifti1Image":
    from nibabel import Nifti1Image

    image = Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    return image


def _read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the volume `(X, Y, Z)` as floats or integers, and its affine `(4, 4)` float64."""
    image = open_nifti(path, SET_MASK)
    if len(image.shape) != 3 or not 0 < np.prod(image.shape, dtype=float) <= _MAX_VOLUME:
        got, expected = f"shape {image.shape}", "one volume of three dimensions"
        raise UserError(f"{path} is no mask", got=got, expected=expected, fix=SET_MASK)
    with reading_nifti(path, SET_MASK):
        values, affine = np.asanyarray(image.dataobj), np.asarray(image.affine, np.float64)
    if values.dtype.kind not in "biuf":
        raise UserError(f"{path} is no mask", got=f"values of type {values.dtype}", expected="numbers", fix=SET_MASK)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        got, expected = np.array2string(affine[:3], precision=3), "finite numbers that tell positions apart"
        raise UserError(f"{path}: the affine gives no positions", got=got, expected=expected, fix=SET_MASK)
    return values, affine
