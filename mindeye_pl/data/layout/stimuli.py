"""Images that the subjects saw, and their captions (MindEye2, spec section 1.1).

Legend: n requested images, N images in the file, H and W image size in pixels.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.data.layout.hdf5 import open_dataset, read_rows
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Format of the captions file, for error messages.
CAPTIONS_LAYOUT = "a json list over stimulus ids of lists of English captions"


#: Side of the smallest images that a network can look at.
_SMALLEST = 2
#: Rounding of half precision and of resizing.
_TOLERANCE = 1e-2


def _are_in_range(images: np.ndarray) -> bool:
    """Return whether no value is outside [0, 1]; a gallery skips images with NaN."""
    return not ((images < -_TOLERANCE) | (images > 1 + _TOLERANCE)).any()


class Stimuli:
    """Hdf5 file with the dataset `images`, `(N, 3, H, W)` RGB, floats in [0, 1] or uint8; reads the requested ones."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the dataset, (N, 3, H, W); raises a UserError if the file is missing, damaged or of another kind."""
        with open_dataset(self.path, "images") as images:
            if images.ndim != 4 or images.shape[1] != 3:
                raise UserError(f"{self.path} does not contain images", got=images.shape, expected="(N, 3, H, W)")
            if min(images.shape[2:]) < _SMALLEST:
                sides = f"H and W of {_SMALLEST} pixels or more"
                raise UserError(f"{self.path} contains no images to look at", got=images.shape, expected=sides)
            return images.shape

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Read images of ids `(n,)` in the given order, repeats allowed, `(n, 3, H, W)` float16.

        Raises a UserError if the file is missing or damaged, an id is out of range, or floats are not in [0, 1].
        """
        outside = (stimulus_ids < 0) | (stimulus_ids >= len(self))
        if outside.any():
            got, expected = stimulus_ids[outside][0], f"0 to {len(self) - 1}"
            raise UserError(f"stimulus id out of range in {self.path}", got=got, expected=expected)
        with open_dataset(self.path, "images") as dataset:
            images = read_rows(dataset, stimulus_ids)
        if images.dtype == np.uint8:
            return (images.astype(np.float32) / 255).astype(np.float16)
        if np.issubdtype(images.dtype, np.floating) and not _are_in_range(images):
            place = int(np.argmin([_are_in_range(image) for image in images]))
            got = f"{images[place].min():.4g} to {images[place].max():.4g} in stimulus {stimulus_ids[place]}"
            raise UserError(f"{self.path} holds values out of range", got=got, expected="floats from 0 to 1, or uint8")
        return images


def read_captions(path: Path, num_images: int) -> list[list[str]]:
    """Read the captions of all images, lists in the order of stimulus ids, without empty captions.

    A file of screened captions has the same format. MedARC publishes its screened captions as a `.npy` file of Python
    objects, 73,000 x 5 strings with '' for a rejected one. Unpickling it may run any code, so the user has to convert
    it to JSON. Raises a UserError if the file is missing, has another format, or another number of images.
    """
    expected = f"{CAPTIONS_LAYOUT}, {num_images} of them"
    if not check_regular(path).is_file():
        raise UserError("the captions file is missing", got=path, expected=expected)
    try:
        found = TypeAdapter(list[list[str]]).validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError) as error:
        got = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path} is not a captions file", got=got, expected=expected) from error
    if len(found) != num_images:
        raise UserError(f"{path} has another number of images", got=f"{len(found)} images", expected=expected)
    return [[caption for caption in captions if caption.strip()] for captions in found]
