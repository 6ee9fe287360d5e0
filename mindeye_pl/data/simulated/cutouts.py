"""Cut-outs: photographs of single objects with a transparent background, in a folder by category.

A category is a folder, its group the first folder of its path: `animals/birds/penguin.png` has the category
`animals/birds` and the group `animals`. A caption's words come from the text file of the same name, as in Tux Paint's
stamps, if its first sentence is a short noun phrase, and else from the file's name.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mindeye_pl.data.image_sources import open_image
from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Package of cut-outs that ordinary Debian systems offer.
_DEBIAN = "apt install tuxpaint-stamps-default"
_EXPECTED = "PNG files with transparency in subfolders by category"
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".webp")
#: Longest side of an image in memory, in pixels.
_LONGEST = 320
#: Size and number at the end of a file's name, number at its start.
_NUMBERS = re.compile(r"^\d+[\W_]+(?=\D)|[\W_]*\d+(x\d+|[a-z])?$")
#: Ends of file names of Tux Paint's mirror images.
_MIRRORED = ("_mirror", "_flip")

#: End of the first sentence; what is left out of it: brackets, a credit, an apposition.
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|[:;\u2014]")
_BRACKETS = re.compile(r"\s*[(\[][^)\]]*[)\]]?")
_CREDIT = re.compile(r"[\s,]*\b(photo\w*|pict\w*|image|courtesy|credits?|copyright)\b.*|\s*\u00a9.*", re.IGNORECASE)
_APPOSITION = re.compile(r",\s+(an?|the|also|or|from)\b.*")
#: First words of noun phrases.
_DETERMINERS = ("a", "an", "the", "some", "our", "two", "three")
#: Longest noun phrase in words; longer first sentences are explanations.
_MAX_WORDS = 6
#: Longest text that is read, in characters.
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Cutout:
    """A photograph of one object."""

    path: Path
    category: str  # path of the folder below the root
    name: str  # words of the file's name
    description: str  # noun phrase with its article

    @property
    def group(self) -> str:
        """First folder of the category."""
        return self.category.partition("/")[0]


@cache
def find_cutouts(folder: str, excluded: tuple[str, ...] = ()) -> tuple[Cutout, ...]:
    """Return the cut-outs below a folder, sorted by path, without those below folders of an excluded name.

    Raises a UserError if there are fewer than two categories, or for a file that cannot be read.
    """
    root = Path(folder).expanduser()
    found = tuple(_described(root, path) for path in cutout_files(root, excluded) if _is_cutout(path))
    categories = {each.category for each in found}
    if len(categories) < 2:
        got = f"one category, {categories.pop()}" if found else "none" if root.is_dir() else "no such folder"
        fix = f"{_DEBIAN}, or simulation.cutouts=FOLDER with cut-outs of your own"
        what = f"simulation.cutouts={folder} needs cut-outs of two categories"
        raise UserError(what, got=got, expected=_EXPECTED, fix=fix)
    return found


def missing_cutouts(folder: str) -> str:
    """Return one line with the command that brings the cut-outs."""
    return f"cut-outs in {folder} ({_DEBIAN}, or simulation.cutouts=FOLDER: {_EXPECTED})"


def missing_photographs(folder: str) -> str:
    """Return one line with the options that replace the backgrounds."""
    return f"backgrounds in {folder} (simulation.backgrounds=FOLDER of photographs, or null)"


def cutout_files(root: Path, excluded: tuple[str, ...] = ()) -> list[Path]:
    """Return the PNG files in subfolders of a folder, without mirror images and folders of an excluded name."""
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".png" and not path.is_dir()]
    parents = {path: path.relative_to(root).parts[:-1] for path in files if not path.stem.endswith(_MIRRORED)}
    return [path for path, folders in parents.items() if folders and not set(folders) & set(excluded)]


@cache
def find_photographs(folder: str) -> tuple[Path, ...]:
    """Return the photographs anywhere below a folder, sorted by path; raises a UserError if there are none."""
    found = tuple(photograph_files(Path(folder).expanduser()))
    for path in found:
        with _open(path):
            pass
    if not found:
        raise UserError(
            f"simulation.backgrounds={folder} has no photographs",
            expected="JPEG, PNG or WebP files",
            fix="simulation.backgrounds=null draws them",
        )
    return found


def photograph_files(root: Path) -> Iterator[Path]:
    """Yield the photographs below a folder, sorted by path."""
    yield from (path for path in sorted(root.rglob("*")) if path.suffix.lower() in _PHOTOGRAPHS and not path.is_dir())


def words_of(path: Path) -> str:
    """Return a file's name as words: `heron_flying-2.png` is "heron flying"."""
    words = re.sub(r"[\W_]+", " ", _NUMBERS.sub("", path.stem)).strip().lower()
    return words or path.stem.lower()


def with_article(words: str) -> str:
    """Return a noun with "a", without one if it looks like a plural."""
    is_plural = words.endswith("s") and not words.endswith(("ss", "us", "is"))
    return words if is_plural else f"a {words}"


def noun_phrase(text: str) -> str | None:
    """Return the first sentence of a text as a phrase inside a sentence, None if it is not a short noun phrase.

    Brackets, a photographer's credit and an apposition are left out: "A Seville orange, also called a bitter orange.
    (photo: J. Doe)" is "a Seville orange".
    """
    phrase, *_ = _SENTENCE.split(_BRACKETS.sub("", text.strip()))
    phrase = _APPOSITION.sub("", _CREDIT.sub("", phrase)).strip(" \t,-\u2013")
    first, *others = phrase.split() or [""]
    if first.lower() not in _DETERMINERS or not 0 < len(others) < _MAX_WORDS:
        return None
    return " ".join([first.lower(), *others])


@lru_cache(maxsize=1024)
def read_cutout(path: Path) -> "Image":
    """Return a cut-out in RGBA, without the transparent margin; raises a UserError if there is nothing else."""
    image = _read(path, "RGBA")
    if (box := image.getchannel("A").getbbox()) is None:
        raise UserError(f"{path} is transparent everywhere", expected="an object", fix="remove the file")
    image = image.crop(box)
    image.thumbnail((_LONGEST, _LONGEST))
    return image


@lru_cache(maxsize=256)
def read_photograph(path: Path) -> "Image":
    """Return a photograph in RGB."""
    image = _read(path, "RGB")
    image.thumbnail((2 * _LONGEST, 2 * _LONGEST))
    return image


def _read(path: Path, mode: str) -> "Image":
    with _open(path) as image:
        return image.convert(mode)


@contextmanager
def _open(path: Path) -> "Iterator[Image]":
    """Open an image; one with more pixels than Pillow thinks safe is refused, where Pillow only warns."""
    from PIL import Image

    fix = "replace or remove the file"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with open_image(path, path, fix=fix) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                got = f"{image.width} x {image.height} pixels"
                raise UserError(f"{path} is too large", got=got, expected=f"at most {most:,} pixels", fix=fix)
            yield image


def _is_cutout(path: Path) -> bool:
    """Return whether the header of a file has transparency."""
    with _open(path) as image:
        return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _described(root: Path, path: Path) -> Cutout:
    name = words_of(path)
    description = noun_phrase(_read_text(path.with_suffix(".txt"))) or with_article(name)
    return Cutout(path, path.parent.relative_to(root).as_posix(), name, description)


def _read_text(path: Path) -> str:
    """Return the first line of a text file, "" without the file."""
    if not path.is_file():
        return ""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline(_MAX_TEXT)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read", got=error, expected="UTF-8 text", fix="remove the file") from error
