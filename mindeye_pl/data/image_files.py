"""Decoding of image files, with errors that name the file."""

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
def _open_image(file: Path | BytesIO, name: object) -> "Iterator[Image]":
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # conversion to RGB would clip 16-bit values instead of scaling them
                raise UserError(f"{name} is not an 8-bit image", got=f"mode {image.mode}", expected="RGB")
            yield image
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for invalid or truncated images
        raise UserError(f"{name} is damaged or not an image", got=error, fix=FETCH) from error


def read_size(path: Path) -> tuple[int, int]:
    """Return (W, H) from the file's header."""
    with _open_image(path, path) as image:
        return image.size


def read_pixels(path: Path) -> Tensor:
    """Return the pixels `(3, H, W)` uint8 of an image file."""
    with _open_image(path, path) as image:
        return torch.from_numpy(_rgb(image))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image file in memory to `(3, H, W)` uint8.

    Args:
        content: of an image file.
        name: file name for error messages.

    Raises:
        UserError: if it is not an 8-bit image, or is truncated.
    """
    with _open_image(BytesIO(content), name) as image:
        return _rgb(image)


def _rgb(image: "Image") -> np.ndarray:
    return np.array(image.convert("RGB")).transpose(2, 0, 1)  # (3, H, W)


FETCH = "copy or download it again"
