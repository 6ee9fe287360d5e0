"""Decoding of image files, with errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
FETCH = "copy or download it again"


@contextmanager
def open_image(file: Path | IO[bytes], name: object, fix: str | None = FETCH) -> "Iterator[Image]":
    """Open an image file; raises a UserError with its name if it is damaged or not an image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # raised by Pillow
        raise UserError(f"{name} is damaged or not an image", got=error, fix=fix) from error


def read_size(path: Path) -> tuple[int, int]:
    """Return (W, H) from the file's header."""
    with open_image(path, path) as image:
        _check_depth(image, path)
        return image.size


def read_pixels(path: Path) -> Tensor:
    """Return the pixels `(3, H, W)` uint8 of an image file."""
    with open_image(path, path) as image:
        return torch.from_numpy(_rgb(image, path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode the content of an image file to `(3, H, W)` uint8.

    Raises a UserError with the file's name if it is not an 8-bit image, or damaged.
    """
    with open_image(BytesIO(content), name) as image:
        return _rgb(image, name)


def _rgb(image: "Image", name: object) -> np.ndarray:
    _check_depth(image, name)
    return np.array(image.convert("RGB")).transpose(2, 0, 1)  # (3, H, W)


def _check_depth(image: "Image", name: object) -> None:
    if image.mode[0] in "IF":  # conversion to RGB would clip 16-bit values instead of scaling them
        raise UserError(f"{name} is not an 8-bit image", got=f"mode {image.mode}", expected="RGB")
