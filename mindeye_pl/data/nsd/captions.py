"""The captions of the images, as `captions.json` holds them.

Legend: N images in the images file.
"""

import json
from pathlib import Path

from mindeye_pl.errors import UserError

#: What a file of captions is, in words.
LAYOUT = "a json list over stimulus ids of lists of English captions"


def read_captions(path: Path, num_images: int) -> list[list[str]]:
    """The captions of every image, N lists in the order of stimulus ids, empty captions left out.

    A file of screened captions has the same layout. Of those that MedARC publishes, 73,000 x 5 strings with '' for a
    rejected one in a `.npy` file of Python objects, the user writes such a json file himself: reading it means
    unpickling it, which may run any code, and this project never does.

    Args:
        path: of the json file.
        num_images: N.

    Raises:
        UserError: if the file is missing, is no such list, or is one of another number of images.
    """
    wanted = f"{LAYOUT}, {num_images} of them"
    if not path.is_file():
        raise UserError("there are no captions", got=f"no file {path}", expected=wanted)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no captions", got=error, expected=wanted) from error
    if not _are_captions(found):
        raise UserError(f"{path} holds no captions", got=_kind(found), expected=wanted)
    if len(found) != num_images:
        raise UserError(f"{path} holds captions of other images", got=f"{len(found)} images", expected=wanted)
    return [[caption for caption in captions if caption.strip()] for captions in found]


def _are_captions(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(captions, list) and all(isinstance(caption, str) for caption in captions) for captions in found
    )


def _kind(found: object) -> str:
    return "a list of something else" if isinstance(found, list) else f"a {type(found).__name__}"
