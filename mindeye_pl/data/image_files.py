"""Image files: opening, size and pixels, with errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@contextmanager
def _opened_image(file: Path | BytesIO, name: object) -> "Iterator[Image]":
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # 16 bits and more: made RGB they would be cut off, not scaled
                raise UserError(f"{name} is no image of 8 bits", got=f"mode {image.mode}", expected="RGB")
            yield image
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a file that is no image, or cut off
        raise UserError(f"{name} is no whole image", got=error, fix=FETCH) from error


def _size_of(path: Path) -> tuple[int, int]:
    """(W, H), from the header alone."""
    with _opened_image(path, path) as image:
        return image.size


def _pixels_of(path: Path) -> Tensor:
    with _opened_image(path, path) as image:
        return torch.from_numpy(_rgb(image))


def decoded_image(content: bytes, name: str) -> np.ndarray:
    """The pixels of an image file in memory, `(3, H, W)` uint8.

    Args:
        content: of an image file.
        name: of the file, for the words that the user reads.

    Raises:
        UserError: if it is no image of 8 bits, or cut off.
    """
    with _opened_image(BytesIO(content), name) as image:
        return _rgb(image)


def _rgb(image: "Image") -> np.ndarray:
    return np.array(image.convert("RGB")).transpose(2, 0, 1)  # (3, H, W)


FETCH = "copy or download it again"
