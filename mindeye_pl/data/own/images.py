"""Images that the events name: found, told apart by their content, and written at one size.

Legend: N different images, P side in pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mindeye_pl.data.image_sources import SUFFIXES, open_image, read_size
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_file

#: How an image becomes square: the middle of its longer side, or all of it, stretched.
Squaring = Literal["crop", "stretch"]

_NAMED_IN_ERRORS = 3


def find_images(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the file of each name of an events table, in the order of the names, each name once.

    A name is a path below the folder, with or without the folder's own name before it and a suffix behind it. Raises a
    UserError that names the first missing ones.
    """
    found, missing = {}, []
    for name in sorted(set(names)):
        path = _find(folder, name)
        if path is None:
            missing.append(name)
        else:
            found[name] = path
    if missing:
        more = len(missing) - _NAMED_IN_ERRORS
        got = ", ".join(missing[:_NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
        what = f"{len(missing)} of {len(missing) + len(found)} images of the events are missing in {folder}"
        raise UserError(what, got=got, expected="image files", fix="own.images=FOLDER, or own.image_column=COLUMN")
    return found


def _find(folder: Path, name: str) -> Path | None:
    paths = [folder / name, folder / name.removeprefix(f"{folder.name}/")]
    paths += [path.with_name(f"{path.name}{suffix}") for path in paths for suffix in sorted(SUFFIXES)]
    return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class StudyImages:
    """The different images of a study; an image's index is its stimulus id.

    Attributes:
        files: N paths.
        digests: N hexadecimal digests of the files' contents.
        ids: stimulus id by the name in the events tables; names of equal files have the same.
    """

    files: Sequence[Path]
    digests: Sequence[str]
    ids: dict[str, int]

    @classmethod
    def of(cls, found: dict[str, Path]) -> "StudyImages":
        """Tell the images apart by their content, so that one image under two names is not trained on and tested."""
        digests = {path: fingerprint_file(path) for path in found.values()}
        first: dict[str, Path] = {}
        for path in found.values():
            first.setdefault(digests[path], path)
        numbers = {digest: number for number, digest in enumerate(first)}
        return cls(list(first.values()), list(first), {name: numbers[digests[path]] for name, path in found.items()})

    def __len__(self) -> int:
        return len(self.files)

    def chances(self) -> np.ndarray:
        """Return a number in [0, 1) per image, `(N,)`, that follows from its content alone."""
        return np.array([int(digest[:13], 16) / 16**13 for digest in self.digests])


def check_images(files: Iterable[Path]) -> None:
    """Raise a UserError for the first file whose header is not that of an 8-bit image."""
    for path in files:
        read_size(path)


def write_squares(layout: DataLayout, files: Sequence[Path], side: int, squaring: Squaring) -> None:
    """Write the images file of the layout, `(N, 3, P, P)` uint8; raises a UserError if a file is damaged."""
    with open_hdf5(layout.stimuli, "w") as file:
        images = file.create_dataset("images", (len(files), 3, side, side), np.uint8)
        for index, path in enumerate(files):
            images[index] = read_square_pixels(path, side, squaring)


def read_square_pixels(path: Path, side: int, squaring: Squaring) -> np.ndarray:
    """Read an image as `(3, P, P)` uint8 RGB."""
    from PIL import Image, ImageOps

    with open_image(path, path) as stored:
        image = ImageOps.exif_transpose(stored).convert("RGB")
        if squaring == "crop":
            square = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
        else:
            square = image.resize((side, side), Image.Resampling.LANCZOS)
        return np.asarray(square).transpose(2, 0, 1)
