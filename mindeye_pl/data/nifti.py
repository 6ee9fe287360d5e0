"""NIfTI files of other people, refused in one line where they are damaged."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

if TYPE_CHECKING:
    from nibabel import Nifti1Image

DOWNLOAD = "download the file again (docs/data.md)"


@contextmanager
def reading_nifti(path: Path, fix: str = DOWNLOAD) -> Iterator[None]:
    """Raise a UserError for what a missing, truncated or other file raises, with what mends it.

    Values are read when they are asked for, so that this belongs around their use too.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    if not check_regular(path).is_file():
        raise UserError(f"{path} is missing", expected="a NIfTI file", fix=fix)
    try:
        yield
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no NIfTI file", got=error, fix=fix) from error


def open_nifti(path: Path, fix: str = DOWNLOAD, **options: Any) -> "Nifti1Image":
    """Return an image whose header was read, with nibabel's options; errors as `reading_nifti`."""
    from nibabel import Nifti1Image, Nifti2Image, load

    with reading_nifti(path, fix):
        image = load(path, **options)
    if not isinstance(image, Nifti1Image | Nifti2Image):
        raise UserError(f"{path} is no NIfTI file", got=type(image).__name__, expected=".nii.gz", fix=fix)
    return image
