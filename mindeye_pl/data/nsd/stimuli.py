"""Images that the subjects saw (MindEye2, spec section 1.1).

Legend: n requested images, N images in the file, H and W image size in pixels.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from mindeye_pl.data.nsd.hdf5 import open_dataset, read_rows
from mindeye_pl.errors import UserError


class Stimuli:
    """Images file; only requested images are read, and the file is closed afterwards.

    Args:
        path: hdf5 file with the dataset `images`, `(N, 3, H, W)` float16 RGB in [0, 1].
    """

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
