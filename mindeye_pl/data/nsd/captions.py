"""Reader of `captions.json`, the captions of all images.

Legend: N images in the images file.
"""

import json
from pathlib import Path

from mindeye_pl.errors import UserError

#: Description of the file format for error messages.
LAYOUT = "a json list over stimulus ids of lists of English captions"


def read_captions(path: Path, num_images: int) -> list[list[str]]:
    """Read the captions of every image, N lists in the order of stimulus ids, without empty captions.

    A file of screened captions has the same format. MedARC publishes its screened captions as a `.npy` file of Python
    objects, 73,000 x 5 strings with '' for a rejected one. Reading it means unpickling, which may run any code, so the
    user has to convert it to JSON.

    Args:
        path: JSON file.
        num_images: N.

    Raises:
        UserError: if the file is missing, has another format, or another number of images.
    """
    expected = f"{LAYOUT}, {num_images} of them"
    if not path.is_file():
        raise UserError("the captions file is missing", got=path, expected=expected)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a captions file", got=error, expected=expected) from error
    if not _are_captions(found):
        raise UserError(f"{path} is not a captions file", got=_kind(found), expected=expected)
    if len(found) != num_images:
        raise UserError(f"{path} has another number of images", got=f"{len(found)} images", expected=expected)
    return [[caption for caption in captions if caption.strip()] for captions in found]


def _are_captions(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(captions, list) and all(isinstance(caption, str) for caption in captions) for captions in found
    )


def _kind(found: object) -> str:
    return "a list with other entries" if isinstance(found, list) else f"a {type(found).__name__}"
