"""Thumbnails for a page: reduced images in PNG or JPEG, without duplicates.

Legend: H and W image size in pixels.
"""

import base64
import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

#: Upper limit of the base64 text of one section's images, in bytes.
SECTION_BYTES = 21_000_000
#: Maximum width in pixels.
WIDTH = 256
#: Images up to this width are shown with visible pixels instead of smoothing.
PIXELATED = 100
_MAX_BYTES = 40_000
_MIN_WIDTH = 64
_JPEG_BYTES_PER_PIXEL = 0.22  # of a photograph at the best of these qualities
_JPEG_QUALITIES = (88, 78, 66, 52)


@dataclass(frozen=True)
class Thumbnail:
    """An image of the page: the hash of its pixels, and its size in pixels after reduction.

    If there are few, `pixelated` shows visible pixels when it is enlarged.
    """

    key: str
    width: int
    height: int
    pixelated: bool


class Thumbnails:
    """Images of one section.

    Args:
        num_images: maximum number of images; together they stay below `SECTION_BYTES`.
        width: maximum width in pixels; smaller if there are many images.
    """

    def __init__(self, num_images: int, width: int = WIDTH):
        self.bytes_each = min(_MAX_BYTES, SECTION_BYTES * 3 // 4 // max(1, num_images))
        fitting = int(math.sqrt(self.bytes_each / _JPEG_BYTES_PER_PIXEL)) // 16 * 16
        self.width = max(_MIN_WIDTH, min(width, fitting))
        self.uris: dict[str, str] = {}
        self._known: dict[str, Thumbnail] = {}

    def add(self, image: np.ndarray) -> Thumbnail:
        """Add an image, `(3, H, W)` floats in [0, 1] or uint8; duplicates are stored once."""
        pixels = as_pixels(image)
        key = hashlib.blake2b(pixels.tobytes(), digest_size=8, salt=str(pixels.shape[:2]).encode()[:16]).hexdigest()
        if key not in self._known:
            shrunk = _shrunk(pixels, self.width)
            self.uris[key] = self._data_uri(shrunk)
            self._known[key] = Thumbnail(key, shrunk.width, shrunk.height, pixels.shape[1] <= PIXELATED)
        return self._known[key]

    def _data_uri(self, shrunk: "Image") -> str:
        """Encode as PNG if small enough, else as JPEG of the best quality that is."""
        form, content = "png", b""
        if shrunk.width * shrunk.height <= 128 * 128:  # larger photographs never fit, and PNG is slow
            content = _written(shrunk, "PNG", optimize=True)
        for quality in _JPEG_QUALITIES:
            if content and len(content) <= self.bytes_each:
                break
            jpeg = _written(shrunk, "JPEG", quality=quality, subsampling=0 if quality > 80 else 2)
            if not content or len(jpeg) < len(content):
                form, content = "jpeg", jpeg
        return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def as_pixels(image: np.ndarray) -> np.ndarray:
    """Convert `(3, H, W)` floats in [0, 1] or uint8 to `(H, W, 3)` uint8."""
    assert image.ndim == 3, image.shape
    assert image.shape[0] == 3, image.shape
    if image.dtype != np.uint8:
        image = (np.clip(image.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def _shrunk(pixels: np.ndarray, width: int) -> "Image":
    from PIL import Image

    shrunk = Image.fromarray(pixels)
    if shrunk.width <= width:
        return shrunk
    height = max(1, round(shrunk.height * width / shrunk.width))
    return shrunk.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def _written(shrunk: "Image", form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    shrunk.save(buffer, format=form, **options)
    return buffer.getvalue()
