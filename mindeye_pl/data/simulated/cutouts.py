"""Cut-outs: photographs of single objects with a transparent background, in a folder by category.

A category is a folder, its group the first folder of its path: `animals/birds/penguin.png` has the category
`animals/birds` and the group `animals`. The words of a caption are the first line of the text file of the same name,
as in Tux Paint's stamps, or else the file's name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

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
_NUMBERS = re.compile(r"^\d+[\W_]+(?=\D)|[\W_]*\d+(x\d+)?$")


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

    Raises a UserError if there are none.
    """
    root = Path(folder).expanduser()
    found = tuple(_described(root, path) for path in cutout_files(root, excluded) if _is_cutout(path))
    if not found:
        got = "no such cut-outs" if root.is_dir() else "no such folder"
        fix = f"{_DEBIAN}, or simulation.cutouts=FOLDER with cut-outs of your own"
        raise UserError(f"simulation.cutouts={folder} has no cut-outs", got=got, expected=_EXPECTED, fix=fix)
    return found


def missing_cutouts(folder: str) -> str:
    """Return one line with the command that brings the cut-outs."""
    return f"cut-outs in {folder} ({_DEBIAN}, or simulation.cutouts=FOLDER: {_EXPECTED})"


def cutout_files(root: Path, excluded: tuple[str, ...] = ()) -> list[Path]:
    """Return the PNG files in subfolders of a folder, without those below folders of an excluded name."""
    folders = ((path, path.relative_to(root).parts[:-1]) for path in sorted(root.rglob("*.png")))
    return [path for path, parents in folders if parents and not set(parents) & set(excluded)]


@cache
def find_photographs(folder: str) -> tuple[Path, ...]:
    """Return the photographs anywhere below a folder, sorted by path; raises a UserError if there are none."""
    root = Path(folder).expanduser()
    if not (found := tuple(photograph_files(root))):
        raise UserError(f"simulation.backgrounds={folder} has no photographs", expected="JPEG, PNG or WebP files")
    return found


def photograph_files(root: Path) -> Iterator[Path]:
    """Yield the photographs below a folder, sorted by path."""
    yield from (path for path in sorted(root.rglob("*")) if path.suffix.lower() in _PHOTOGRAPHS)


def words_of(path: Path) -> str:
    """Return a file's name as words: `heron_flying-2.png` is "heron flying"."""
    words = re.sub(r"[\W_]+", " ", _NUMBERS.sub("", path.stem)).strip().lower()
    return words or path.stem.lower()


@lru_cache(maxsize=1024)
def read_cutout(path: Path) -> "Image":
    """Return a cut-out in RGBA, without the transparent margin."""
    image = _read(path, "RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    image.thumbnail((_LONGEST, _LONGEST))
    return image


@lru_cache(maxsize=256)
def read_photograph(path: Path) -> "Image":
    """Return a photograph in RGB."""
    image = _read(path, "RGB")
    image.thumbnail((2 * _LONGEST, 2 * _LONGEST))
    return image


def _read(path: Path, mode: str) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read", got=error, expected="an image", fix="remove the file") from error


def _is_cutout(path: Path) -> bool:
    """Return whether the header of a file has transparency."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read", got=error, expected="an image", fix="remove the file") from error


def _described(root: Path, path: Path) -> Cutout:
    name, text = words_of(path), path.with_suffix(".txt")
    lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.is_file() else []
    description = re.split(r"[.!?](?:\s|$)", lines[0].strip())[0] if lines else ""
    return Cutout(path, path.parent.relative_to(root).as_posix(), name, _noun_phrase(description or f"a {name}"))


def _noun_phrase(text: str) -> str:
    """Return a text with its article in lower case, so that it can stand inside a sentence."""
    first, *_ = text.split()
    return text[0].lower() + text[1:] if first in ("A", "An", "The", "Some") else text
