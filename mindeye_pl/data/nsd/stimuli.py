"""Images that the subjects saw, and their captions (MindEye2, spec section 1.1).

Legend: n requested images, N images in the file, H and W image size in pixels.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.data.nsd.hdf5 import open_dataset, read_rows
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Format of the captions file, for error messages.
CAPTIONS_LAYOUT = "a json list over stimulus ids of lists of English captions"


class Stimuli:
    """Hdf5 file with the dataset `images`, `(N, 3, H, W)` float16 RGB in [0, 1]; only requested images are read."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the dataset, (N, 3, H, W); raises a UserError if the file is missing, damaged or of another kind."""
        with open_dataset(self.path, "images") as images:
            if images.ndim != 4 or images.shape[1] != 3:
                raise UserError(f"{self.path} does not contain images", got=images.shape, expected="(N, 3, H, W)")
            return images.shape

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Read images of ids `(n,)` in the given order, repeats allowed, `(n, 3, H, W)` float16.

        Raises a UserError if the file is missing or damaged, or an id is out of range.
        """
        outside = (stimulus_ids < 0) | (stimulus_ids >= len(self))
        if outside.any():
            got, expected = stimulus_ids[outside][0], f"0 to {len(self) - 1}"
            raise UserError(f"stimulus id out of range in {self.path}", got=got, expected=expected)
        with open_dataset(self.path, "images") as images:
            return read_rows(images, stimulus_ids)


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
