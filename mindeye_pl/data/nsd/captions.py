"""Reader of `captions.json`, the captions of all images."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mindeye_pl.errors import UserError

#: Description of the file format for error messages.
LAYOUT = "a json list over stimulus ids of lists of English captions"


def read_captions(path: Path, num_images: int) -> list[list[str]]:
    """Read the captions of all images, lists in the order of stimulus ids, without empty captions.

    A file of screened captions has the same format. MedARC publishes its screened captions as a `.npy` file of Python
    objects, 73,000 x 5 strings with '' for a rejected one. Unpickling it may run any code, so the user has to convert
    it to JSON. Raises a UserError if the file is missing, has another format, or another number of images.
    """
    expected = f"{LAYOUT}, {num_images} of them"
    if not path.is_file():
        raise UserError("the captions file is missing", got=path, expected=expected)
    try:
        found = TypeAdapter(list[list[str]]).validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError) as error:
        got = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path} is not a captions file", got=got, expected=expected) from error
    if len(found) != num_images:
        raise UserError(f"{path} has another number of images", got=f"{len(found)} images", expected=expected)
    return [[caption for caption in captions if caption.strip()] for captions in found]
