"""Square images of one size from images as they were shown."""

import numpy as np
from PIL import Image


def square(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the central square of an image `(3, H, W)` uint8, resized with antialiasing, `(3, side, side)` uint8."""
    size = min(pixels.shape[1:])
    top, left = ((length - size) // 2 for length in pixels.shape[1:])
    cropped = pixels[:, top : top + size, left : left + size]
    if size == side:
        return cropped
    resized = Image.fromarray(cropped.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized).transpose(2, 0, 1)


def from_rows(image: np.ndarray) -> np.ndarray:
    """Return `(3, H, W)` of an image `(H, W)` or `(H, W, 3)`."""
    return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*image.shape[:2], 3)).transpose(2, 0, 1)
