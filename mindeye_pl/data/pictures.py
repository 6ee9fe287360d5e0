"""Pictures to train foundation models on: folders of them, beside the hdf5 files of `Stimuli`.

Legend: n pictures asked for, H and W size in pixels.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from mindeye_pl.errors import UserError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class Table(Protocol):
    """Rows by number: pictures, tokens, latents or words."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """The rows `(n, ...)` of `(n,)` ids."""


class PictureFolder:
    """The pictures below a folder, in the order of their names, cropped to squares of one size.

    Args:
        root: searched through, sub-folders too.
        image_size: side in pixels.

    Raises:
        UserError: if the folder is missing or has no picture.
    """

    def __init__(self, root: Path, image_size: int):
        self.root, self.image_size = root, image_size
        self.paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES) if root.is_dir() else []
        if not self.paths:
            raise UserError("the folder holds no picture", seen=root, wanted=f"files of {sorted(_SUFFIXES)}")

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Pictures `(n, 3, H, W)` float16 in [0, 1].

        Raises:
            UserError: for a file that is no picture.
        """
        return np.stack([self._read_one(self.paths[i]) for i in ids.tolist()])

    def _read_one(self, path: Path) -> np.ndarray:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (self.image_size,) * 2, Image.Resampling.LANCZOS)
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{path} is no whole picture", seen=error, mend=f"rm {path}") from error
        return (np.asarray(square, np.float32) / 255).astype(np.float16).transpose(2, 0, 1)
