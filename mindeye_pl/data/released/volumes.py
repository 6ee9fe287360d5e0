"""Volumes in NIfTI files, read within a mask.

Voxels are numbered in C order of the volume `(X, Y, Z)` that nibabel shows, as MindEye2 numbers those of nsdgeneral.

Legend: T volumes, V voxels of the mask.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular


def nibabel() -> ModuleType:
    """Return the module; raises a UserError that names the extra where it is not installed."""
    try:
        import nibabel as module
    except ImportError as error:
        raise UserError("NIfTI files need nibabel", fix="pip install 'mindeye_pl[neuro]'") from error
    return module


def read_volume(path: Path) -> np.ndarray:
    """Return the values `(X, Y, Z)`, or `(X, Y, Z, T)`; raises a UserError if the file is missing or damaged."""
    return np.asanyarray(_opened(path).dataobj)


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
    image = _opened(path, keep_file_open=True)  # a compressed file is then read once, from its beginning to its end
    if len(image.shape) != 4 or image.shape[:3] != mask.shape:
        raise UserError(f"{path} does not fit the mask", got=image.shape, expected=(*mask.shape, "trials"))
    series = np.empty((image.shape[3], np.count_nonzero(mask)), np.float32)
    for index in range(len(series)):
        try:
            series[index] = image.dataobj[..., index][mask]
        except (OSError, EOFError, ValueError) as error:
            raise UserError(f"{path} is truncated", got=error, fix="download the file again") from error
    return series


def _opened(path: Path, **options: Any) -> Any:
    if not check_regular(path).is_file():
        raise UserError(f"{path} is missing", expected="a NIfTI file")
    module = nibabel()
    try:
        return module.Nifti1Image.from_filename(str(path), **options)
    except (
        *(module.filebasedimages.ImageFileError, module.spatialimages.HeaderDataError),
        *(module.wrapstruct.WrapStructError, OSError, EOFError),
    ) as error:
        raise UserError(f"{path} is not a NIfTI file", got=error, fix="download the file again") from error
