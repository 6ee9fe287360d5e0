"""Some reconstructions beside the seen images, for the record of a run.

Legend: n test images, H and W image size.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.engine.records import Record

#: Images of a row after the seen one, in the order of the report: title by name of the tensor.
_COLUMNS = {"images": "reconstruction", "refined_images": "refined", "blurry_images": "blurry"}
#: Images are shrunk to this many pixels to a side.
MAX_SIDE = 256


def log_reconstructions(
    made: Mapping[str, Tensor], captions: Sequence[str] | None, stimuli: Stimuli, record: Record, count: int
) -> None:
    """Log `count` images, spread over the test set, beside the seen ones: as strips, and as a table.

    Args:
        made: tensors of the reconstructions.
        captions: of all images, None where there are none.
        stimuli: the seen images.
        record: receives them.
        count: number of images.
    """
    ids = made["stimulus_ids"].numpy()
    if (count := min(count, len(ids))) < 1:
        return
    chosen = np.linspace(0, len(ids) - 1, count).round().astype(int)
    shown = {"seen": stimuli.read(ids[chosen])}
    shown |= {title: made[key][torch.from_numpy(chosen)].numpy() for key, title in _COLUMNS.items() if key in made}
    texts = [captions[index] if captions else "" for index in chosen]
    rows = [[_pixels(images[row]) for images in shown.values()] for row in range(count)]
    names = [f"stimulus {ids[index]}: {' / '.join(shown)}" for index in chosen]
    titles = [name + (f"; {text}" if text else "") for name, text in zip(names, texts, strict=True)]
    record.log_images("reconstructions", [_strip(row) for row in rows], titles)
    cells = [[int(ids[index]), *row, text] for index, row, text in zip(chosen, rows, texts, strict=True)]
    record.log_table("reconstruction_table", ("stimulus", *shown, "caption"), cells)


def _pixels(image: np.ndarray) -> np.ndarray:
    """Return `(3, H, W)` in [0, 1] as `(H, W, 3)` uint8 of at most `MAX_SIDE` pixels to a side."""
    from PIL import Image

    pixels = (np.clip(image.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)
    shrunk = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    shrunk.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(shrunk)


def _strip(images: list[np.ndarray]) -> np.ndarray:
    """Return images `(H, W, 3)` side by side at the height of the largest, with white lines between them."""
    from PIL import Image

    height = max(len(image) for image in images)
    parts: list[np.ndarray] = []
    for image in images:
        width = round(image.shape[1] * height / image.shape[0])
        if parts:
            parts.append(np.full((height, 2, 3), 255, np.uint8))
        parts.append(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)))
    return np.concatenate(parts, axis=1)
