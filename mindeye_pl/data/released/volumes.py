"""Volumes in NIfTI files, read within a mask.

Voxels are numbered in C order of the volume `(X, Y, Z)` that nibabel shows, as MindEye2 numbers those of nsdgeneral.

Legend: T volumes, V voxels of the mask.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.data.nifti import open_nifti, reading_nifti
from mindeye_pl.errors import UserError


def read_volume(path: Path) -> np.ndarray:
    """Return the values `(X, Y, Z)`, or `(X, Y, Z, T)`; raises a UserError if the file is missing or damaged."""
    image = open_nifti(path)
    with reading_nifti(path):
        return np.asanyarray(image.dataobj)


def read_masks(paths: Sequence[Path]) -> list[np.ndarray]:
    """Return one bool mask `(X, Y, Z)` for each file, true above 0; a UserError if they differ in shape."""
    masks = [np.nan_to_num(read_volume(path)) > 0 for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise UserError(f"{path} has another shape", got=mask.shape, expected=f"{masks[0].shape} of {paths[0]}")
    return masks


def read_series(path: Path, mask: np.ndarray) -> np.ndarray:
    """Return the volumes of a 4D file at the voxels of a mask `(X, Y, Z)`, `(T, V)` float32, one in memory at a time.

    Raises a UserError if the file is missing or damaged, or has another shape.
    """
    image = open_nifti(path, keep_file_open=True)  # a compressed file is then read once, from its beginning to its end
    if len(image.shape) != 4 or image.shape[:3] != mask.shape:
        raise UserError(f"{path} does not fit the mask", got=image.shape, expected=(*mask.shape, "trials"))
    series = np.empty((image.shape[3], np.count_nonzero(mask)), np.float32)
    with reading_nifti(path):
        for index in range(len(series)):
            series[index] = image.dataobj[..., index][mask]
    return series
