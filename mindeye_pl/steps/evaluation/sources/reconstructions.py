"""Reconstructions that somebody else made, or another run, in the order of the test set and read a few at a time.

They come as a folder of PNG or JPEG files, as a published `.pt` file (MindEye2, spec section 8; MindEye1, section 8),
or as a folder of the step `reconstruct`. A thousand pictures of 768 pixels are 7 GB, so nothing but the pictures asked
for is in memory.

Legend: N test pictures, n of them asked for, M pictures of the source, H and W their size in pixels.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_files import PICTURE_SUFFIXES
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruction_files import (
    CAPTIONS,
    MINDEYE1_TEST_PICTURES,
    PUBLISHED_CAPTIONS,
    PUBLISHED_PICTURES,
    RECONSTRUCTIONS,
)
from mindeye_pl.steps.evaluation.sources.files import OwnReconstructions, PictureFiles, PictureSource, PublishedTensor
from mindeye_pl.steps.evaluation.sources.safe_torch import described, load_plain

_WANTED = f"a folder of PNG or JPEG files, a published .pt file, or a folder with {RECONSTRUCTIONS}"

#: Rounding of half precision and of resizing that is put right without a word.
_TOLERANCE = 1e-3


class LazyPictures:
    """Pictures of a source in another order, float32 in [0, 1], read when they are asked for.

    Args:
        source: M pictures.
        rows: `(N,)` places in the source.
    """

    def __init__(self, source: PictureSource, rows: np.ndarray):
        self._source, self._rows = source, rows
        self.shape: tuple[int, int, int, int] = (len(rows), *source.shape[1:])

    @property
    def names(self) -> list[str]:
        """What each picture is called in its source, N."""
        return [self._source.names[row] for row in self._rows.tolist()]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Pictures `(n, 3, H, W)` float32 in [0, 1]; of one whole number `(3, H, W)`.

        Raises:
            UserError: naming the first picture that is unreadable, not finite or out of range.
        """
        if isinstance(which, int):
            return self[[which]][0]
        rows = self._rows[which if isinstance(which, slice) else np.asarray(which)]
        pictures = self._source.read(rows)
        pictures = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures.float()
        flat = pictures.flatten(1)
        for row, low, high in zip(rows.tolist(), flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True):
            _check_range(self._source.names[row], low, high)
        return pictures.clamp_(0, 1)

    def blocks(self, size: int = 32) -> Iterator[Tensor]:
        """All pictures in order, at most `size` of them at once."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def check(self) -> None:
        """Reads every picture once and keeps none, so that a bad one is known before anything long begins.

        Raises:
            UserError: as `__getitem__`.
        """
        for _ in self.blocks():
            pass


@dataclass(frozen=True, eq=False)
class ForeignReconstructions:
    """One reconstruction of each test picture, in the order of the test set.

    Attributes:
        images: `(N, 3, H, W)` in [0, 1], read when they are asked for.
        stimulus_ids: `(N,)` int64, as the source names them; None where it does not, and the order alone says which
            picture is which.
        captions: N sentences; None where the source has none.
        names: N, what each picture is called in its source.
    """

    images: LazyPictures
    stimulus_ids: np.ndarray | None
    captions: list[str] | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.images)


def read_reconstructions_of(path: str | Path, test_ids: np.ndarray, *, key: str = "images") -> ForeignReconstructions:
    """Opens reconstructions of the test pictures; pixels are read later.

    A folder of picture files is matched by name where names are stimulus ids, 0-based (`17.png`, `00017.png`,
    `stimulus_17.png`), and by order where they are not: then there are as many files as test pictures, and numbers in
    names are sorted as numbers. Files numbered 0 to N - 1 or 1 to N, where these are not the test pictures' own ids,
    are in order too. A published file is taken to have the order of the test set, ascending ids, as MindEye2's have;
    what order MindEye1's shards had is not documented.

    Args:
        path: a folder of PNG or JPEG files, perhaps with `captions.json` (a list in the order of the files, or an
            object of sentences by file name); a published `.pt` file, its captions beside it; or a folder or file of
            the step `reconstruct`.
        test_ids: `(N,)` stimulus ids of the test set, ascending.
        key: which pictures of a folder of `reconstruct`: `images`, `refined_images`, `blurry_images`, ...

    Raises:
        UserError: if there is no such file, it holds something else, is damaged or a pickle with code; if a picture is
            missing, too many, of no test picture, or there twice.
    """
    path, test_ids = Path(path).expanduser(), np.asarray(test_ids, np.int64)
    assert (np.diff(test_ids) > 0).all(), "test ids ascend"
    if not path.exists():
        raise UserError("the reconstructions do not exist", seen=path, wanted=_WANTED)
    source, ids, captions = _opened(path, test_ids, key)
    if captions is not None and len(captions) != len(source.names):
        seen, wanted = f"{len(captions)} captions", f"{len(source.names)}, one for each picture"
        raise UserError(f"the captions of {path} are others than those of its pictures", seen=seen, wanted=wanted)
    if ids is not None:
        rows = _rows_by_id(path, source, ids, test_ids)
    elif len(source.names) == len(test_ids):
        rows = np.arange(len(test_ids))
    else:
        raise _another_number(path, len(source.names), len(test_ids))
    images = LazyPictures(source, rows)
    ordered = None if captions is None else [captions[row] for row in rows.tolist()]
    return ForeignReconstructions(images, None if ids is None else test_ids, ordered, images.names)


def _opened(path: Path, test_ids: np.ndarray, key: str) -> tuple[PictureSource, np.ndarray | None, list[str] | None]:
    """The pictures, their stimulus ids and their captions as they lie, `(M,)` each."""
    if path.is_dir() and (path / RECONSTRUCTIONS).is_file():
        path = path / RECONSTRUCTIONS
    if path.is_dir():
        files = PictureFiles(_picture_files(path))
        return files, _ids_of_names(files.paths, test_ids), _captions_of_folder(path, files.names)
    if path.suffix == ".safetensors":
        own = OwnReconstructions(path, key)
        return own, own.stimulus_ids, _captions_of_folder(path.parent, own.names)
    if path.suffix in (".pt", ".pth"):
        return PublishedTensor(path), None, _published_captions(path)
    raise UserError(f"{path} is of no known kind", wanted=_WANTED)


def _picture_files(folder: Path) -> list[Path]:
    """The folder's pictures, numbers in names sorted as numbers."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    if not files:
        others = sorted(p.name for p in folder.glob("*.pt") if p.stem.endswith(PUBLISHED_PICTURES))
        mend = f"one of its files: {', '.join(others[:5])}" if others else None
        raise UserError(f"{folder} holds no reconstruction", wanted=_WANTED, mend=mend)
    return sorted(files, key=lambda p: (_parts(p.stem), p.name))


def _parts(stem: str) -> list[str | int]:
    """Text and numbers by turns, text first, so that two names compare part by part."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", stem))]


def _ids_of_names(files: Sequence[Path], test_ids: np.ndarray) -> np.ndarray | None:
    """The stimulus id in each name, `(M,)`; None where names are none, or only count the files."""
    found = [re.fullmatch(r"(?:stimulus[ _-]?)?([0-9]{1,9})", p.stem, re.IGNORECASE) for p in files]
    if not any(found):
        return None
    for file, match in zip(files, found, strict=True):
        if match is None:
            with_id = next(other for other, matched in zip(files, found, strict=True) if matched)
            raise UserError(
                f"{file} names no stimulus", seen=f"beside {with_id.name}", wanted="ids in all names, or none"
            )
    ids = np.array([int(match[1]) for match in found if match], np.int64)
    counted = len(ids) == len(test_ids) and ids.min() in (0, 1) and (np.diff(ids) == 1).all()
    return None if counted and not np.array_equal(ids, test_ids) else ids


def _rows_by_id(path: Path, source: PictureSource, ids: np.ndarray, test_ids: np.ndarray) -> np.ndarray:
    """The place of each test picture's reconstruction in the source, `(N,)`."""
    row_of: dict[int, int] = {}
    for row, id_ in enumerate(ids.tolist()):
        if id_ in row_of:
            twice = f"{source.names[row_of[id_]]} and {source.names[row]}"
            raise UserError(f"{path} has two pictures of stimulus {id_}", seen=twice, wanted="one")
        row_of[id_] = row
    if len(beyond := np.flatnonzero(~np.isin(ids, test_ids))):
        from_one = np.array_equal(np.sort(ids) - 1, test_ids)
        raise UserError(
            f"{path}: {source.names[beyond[0]]} is of no test picture",
            seen=f"stimulus {ids[beyond[0]]}, and {len(beyond) - 1} more",
            wanted=f"the {len(test_ids)} test pictures, {_a_few(test_ids)}",
            mend="lower every id by 1: they count from 0, NSD's own 73K ids from 1" if from_one else None,
        )
    missing = [id_ for id_ in test_ids.tolist() if id_ not in row_of]
    if missing:
        have = len(test_ids) - len(missing)
        raise _another_number(path, have, len(test_ids), f", without stimulus {_a_few(missing)}")
    return np.array([row_of[id_] for id_ in test_ids.tolist()], np.int64)


def _another_number(path: Path, seen: int, wanted: int, more: str = "") -> UserError:
    mend = None
    if seen == MINDEYE1_TEST_PICTURES:
        mend = f"data.test_split=test, the older split, if these are MindEye1's {seen} pictures"
    elif seen == nsd.NUM_SHARED_STIMULI:
        mend = f"data.test_split=new_test data.split=standard, if these are MindEye2's {seen} pictures"
    return UserError(
        f"{path} has not as many pictures as the test set",
        seen=f"{seen} pictures{more}",
        wanted=f"{wanted} pictures",
        mend=mend,
    )


def _a_few(ids: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _check_range(name: str, low: float, high: float) -> None:
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{name}: a value is not finite", wanted="0 to 1")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        mend = "divide by 255" if high > 2 else "(x + 1) / 2, if they are of [-1, 1]"
        raise UserError(f"{name}: values out of range", seen=f"{low:.3g} to {high:.3g}", wanted="0 to 1", mend=mend)


def _captions_of_folder(folder: Path, names: Sequence[str]) -> list[str] | None:
    """The sentences of `captions.json`: a list in the order of the pictures, or an object by file name."""
    path = folder / CAPTIONS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no json", seen=error) from error
    if isinstance(content, dict):
        if lacking := [name for name in names if name not in content]:
            raise UserError(f"{path} has no caption of a picture", seen=lacking[0], wanted="one by each file's name")
        content = [content[name] for name in names]
    return _sentences(path, content)


def _published_captions(pictures: Path) -> list[str] | None:
    """The sentences in the file that the published code writes beside the pictures."""
    end = next((end for end in PUBLISHED_PICTURES if pictures.stem.endswith(end)), None)
    if end is None:
        return None
    path = pictures.with_name(pictures.stem.removesuffix(end) + PUBLISHED_CAPTIONS + pictures.suffix)
    return _sentences(path, load_plain(path)) if path.is_file() else None


def _sentences(path: Path, content: Any) -> list[str]:
    if not isinstance(content, list | tuple) or not all(isinstance(sentence, str) for sentence in content):
        raise UserError(f"{path} holds no captions", seen=described(content), wanted="a list of sentences")
    return list(content)
