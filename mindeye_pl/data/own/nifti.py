"""NIfTI images of betas and of masks, with nibabel.

Legend: X, Y, Z sizes of a volume, T trials, V voxels, K kept ones.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.nifti import open_nifti, reading_nifti
from mindeye_pl.errors import UserError

#: Largest difference of two affines in mm; headers hold single precision.
_TOLERANCE_MM = 1e-3
_FIX = "export it again"


class Nifti:
    """A NIfTI image whose header was read.

    Attributes:
        shape: of its array.
        dtype: of the values in the file, before the header's scaling.
        affine: `(4, 4)` in mm.
    """

    def __init__(self, path: Path):
        """Read the header; raises a UserError if it is damaged."""
        self._path, image = path, open_nifti(path, _FIX)
        self._values, self.affine = image.dataobj, np.asarray(image.affine)
        self.shape, self.dtype = tuple(image.shape), image.get_data_dtype()

    def values(self) -> np.ndarray:
        """Return the array; raises a UserError if the file is damaged."""
        with reading_nifti(self._path, _FIX):
            return np.asanyarray(self._values)


@dataclass(frozen=True)
class Mask:
    """Voxels that belong to a subject's brain: `(X, Y, Z)` bool, its affine `(4, 4)` in mm, and its file."""

    chosen: np.ndarray
    affine: np.ndarray
    path: Path

    @classmethod
    def read(cls, path: Path) -> "Mask":
        """Read a mask, true where the file is above 0; raises a UserError if it is no volume or selects nothing."""
        image = Nifti(path)
        if len(image.shape) != 3:
            raise UserError(f"{path} is no mask", got=image.shape, expected="one volume (X, Y, Z)")
        chosen = image.values() > 0  # false for NaN
        if not chosen.any():
            raise UserError(f"{path} selects no voxel", got="no value above 0", expected="a mask", fix="own.mask=FILE")
        return cls(chosen, image.affine, path)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the chosen voxels in C order of the volume, `(V,)` int64."""
        return np.flatnonzero(self.chosen)

    def check_affine(self, affine: np.ndarray, betas: Path) -> None:
        """Raise a UserError if betas lie elsewhere in space than the mask."""
        if np.abs(affine - self.affine).max() > _TOLERANCE_MM:
            got, expected = _position(affine), f"{_position(self.affine)} of {self.path}"
            fix = "a mask that is resampled to the betas' space, own.mask=FILE"
            raise UserError(f"{betas} and its mask lie in different spaces", got=got, expected=expected, fix=fix)


def _position(affine: np.ndarray) -> str:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return f"voxels of {' x '.join(f'{size:.3g}' for size in sizes)} mm from {np.round(affine[:3, 3], 2).tolist()}"
