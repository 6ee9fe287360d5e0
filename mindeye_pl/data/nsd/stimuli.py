"""NSD's images at the size of MindEye2's file, and COCO's captions of them.

MindEye2's authors do not say how they resized the images; Pillow's bicubic filter, which antialiases, is our choice
(docs/decisions/0038).

Legend: n images of one block.
"""

import csv
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.release import COCO_SPLITS, NsdRelease
from mindeye_pl.errors import UserError
from mindeye_pl.store.json_files import read_json

_NAME = "imgBrick"
#: Side of the released images in pixels.
_SOURCE_SIZE = 425
#: Stored value of each pixel value.
_HALVES = (np.arange(256) / np.float32(255)).astype(np.float16)


def count_stimuli(path: Path) -> int:
    """Return the number of images; raises a UserError if the file is damaged or its images have another size."""
    with open_dataset(path, _NAME) as images:
        if images.ndim != 4 or images.shape[1:] != (_SOURCE_SIZE, _SOURCE_SIZE, 3) or images.dtype != np.uint8:
            got = f"{images.shape} {images.dtype}"
            expected = f"(N, {_SOURCE_SIZE}, {_SOURCE_SIZE}, 3) uint8"
            raise UserError(f"{path} does not hold NSD's images", got=got, expected=expected)
        return len(images)


def resize_stimuli(path: Path, start: int, stop: int) -> np.ndarray:
    """Return images `start` to `stop` as MindEye2 stores them, `(n, 3, 224, 224)` float16 RGB in [0, 1]."""
    from PIL import Image

    size = (nsd.IMAGE_SIZE, nsd.IMAGE_SIZE)
    with open_dataset(path, _NAME) as images:
        pixels = images[start:stop]
    small = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in pixels]
    return _HALVES[np.stack(small).transpose(0, 3, 1, 2)]


def read_coco_captions(release: NsdRelease, num_stimuli: int) -> list[list[str]]:
    """Return COCO's captions of each image, by 73K id from 0.

    NSD shows crops of COCO's images, so that a caption may describe what is not seen (`pipeline=screen_captions`).
    Raises a UserError if a file is damaged, or the table does not name every image.
    """
    by_image: dict[int, list[str]] = {}
    for path in map(release.coco_captions, COCO_SPLITS):
        try:
            for annotation in read_json(path)["annotations"]:
                by_image.setdefault(int(annotation["image_id"]), []).append(str(annotation["caption"]).strip())
        except (KeyError, TypeError, ValueError) as error:
            expected = "annotations, each with image_id and caption"
            raise UserError(f"{path} is no file of COCO's captions", got=error, expected=expected) from error
    path = release.stimulus_info
    coco_ids = _coco_ids(path)
    if missing := [id_ for id_ in range(num_stimuli) if id_ not in coco_ids]:
        raise UserError(f"{path} does not name every image", got=f"no nsdId {missing[0]}")
    return [by_image.get(coco_ids[id_], []) for id_ in range(num_stimuli)]


def _coco_ids(path: Path) -> dict[int, int]:
    """Return COCO's id of each 73K id from 0."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {int(row["nsdId"]): int(row["cocoId"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not NSD's table of images", got=error, expected="columns nsdId, cocoId") from error
