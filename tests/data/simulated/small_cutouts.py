"""Cut-outs of a few pixels, made here."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"animals/birds/crow.png": (20, 20, 20), "animals/dog.png": (200, 120, 40), "food/apple_2.png": (220, 0, 0)}


def disc(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), margin: int = 4) -> Image.Image:
    """A filled ellipse inside a transparent margin."""
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    pixels = np.zeros((height + 2 * margin, width + 2 * margin, 4), np.uint8)
    pixels[margin : margin + height, margin : margin + width] = [*colour, 0]
    pixels[margin : margin + height, margin : margin + width, 3] = 255 * (x**2 + y**2 <= 1.05)
    return Image.fromarray(pixels)


def write_cutouts(root: Path) -> Path:
    """Write three cut-outs of three categories, one of them with Tux Paint's text."""
    for name, colour in COLOURS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        disc(colour).save(root / name)
    (root / "animals/dog.txt").write_text("A big brown dog! Woof.\nde.utf8=Ein Hund.\n")
    return root


def write_photographs(root: Path) -> Path:
    """Write two photographs, one of them below a folder."""
    (root / "more").mkdir(parents=True)
    ramp = np.tile(np.arange(90, dtype=np.uint8)[None, :, None], (60, 1, 3))
    Image.fromarray(ramp).save(root / "sea_shore.png")
    Image.fromarray(255 - ramp).save(root / "more/old town 12.JPG", format="JPEG")
    return root
