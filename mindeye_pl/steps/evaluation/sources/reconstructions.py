"""Reconstructions that somebody else made, or another run, in the order of the test set and read a few at a time.

They come as a folder of PNG or JPEG files, as a published `.pt` file (MindEye2, spec section 8; MindEye1, section 8),
or as a folder of the step `reconstruct`. A thousand images of 768 pixels are 7 GB, so nothing but the images asked
for is in memory.

Legend: N test images, n of them asked for, M images of the source, H and W their size in pixels.
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

from mindeye_pl.data.image_files import IMAGE_SUFFIXES
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruction_files import (
    CAPTIONS,
    MINDEYE1_TEST_IMAGES,
    PUBLISHED_CAPTIONS,
    PUBLISHED_IMAGES,
    RECONSTRUCTIONS,
)
from mindeye_pl.steps.evaluation.sources.files import (
    ImageFiles,
    ImageSource,
    OwnReconstructions,
    PublishedTensor,
    described,
    read_published,
)

_WANTED = f"a folder of PNG or JPEG files, a published .pt file, or a folder with {RECONSTRUCTIONS}"

#: Rounding of half precision and of resizing that is put right without a word.
_TOLERANCE = 1e-3


class LazyImages:
    """Images of a source in another order, float32 in [0, 1], read when they are asked for.

    Args:
        source: M images.
        rows: `(N,)` places in the source.
    """

    def __init__(self, source: ImageSource, rows: np.ndarray):
        self._source, self._rows = source, rows
        self.shape: tuple[int, int, int, int] = (len(rows), *source.shape[1:])

    @property
    def names(self) -> list[str]:
        """Names of the N images in their source."""
        return [self._source.names[row] for row in self._rows.tolist()]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Images `(n, 3, H, W)` float32 in [0, 1]; of one whole number `(3, H, W)`.

        Raises:
            UserError: naming the first image that is unreadable, not finite or out of range.
        """
        if isinstance(which, int):
            return self[[which]][0]
        rows = self._rows[which if isinstance(which, slice) else np.asarray(which)]
        images = self._source.read(rows)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        flat = images.flatten(1)
        for row, low, high in zip(rows.tolist(), flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True):
            _check_range(self._source.names[row], low, high)
        return images.clamp_(0, 1)

    def blocks(self, size: int = 32) -> Iterator[Tensor]:
        """All images in order, at most `size` of them at once."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def check(self) -> None:
        """Reads every image once and keeps none, so that a bad one is known before anything long begins.

        Raises:
            UserError: as `__getitem__`.
        """
        for _ in self.blocks():
            pass


@dataclass(frozen=True, eq=False)
class ForeignReconstructions:
    """One reconstruction of each test image, in the order of the test set.

    Attributes:
        images: `(N, 3, H, W)` in [0, 1], read when they are asked for.
        stimulus_ids: `(N,)` int64, as the source names them; None where it does not, and the order alone says which
            image is which.
        captions: N sentences; None where the source has none.
        names: N, what each image is called in its source.
    """

    images: LazyImages
    stimulus_ids: np.ndarray | None
    captions: list[str] | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.images)


def read_reconstructions_of(path: str | Path, test_ids: np.ndarray, *, key: str = "images") -> ForeignReconstructions:
    """Opens reconstructions of the test images; pixels are read later.

    A folder of image files is matched by name where names are stimulus ids, 0-based (`17.png`, `00017.png`,
    `stimulus_17.png`), and by order where they are not: then there are as many files as test images, and numbers in
    names are sorted as numbers. Files numbered 0 to N - 1 or 1 to N, where these are not the test images' own ids,
    are in order too. A published file is taken to have the order of the test set, ascending ids, as MindEye2's have;
    what order MindEye1's shards had is not documented.

    Args:
        path: a folder of PNG or JPEG files, perhaps with `captions.json` (a list in the order of the files, or an
            object of sentences by file name); a published `.pt` file, its captions beside it; or a folder or file of
            the step `reconstruct`.
        test_ids: `(N,)` stimulus ids of the test set, ascending.
        key: which images of a folder of `reconstruct`: `images`, `refined_images`, `blurry_images`, ...

    Raises:
        UserError: if there is no such file, it holds something else, is damaged or a pickle with code; if an image is
            missing, too many, of no test image, or there twice.
    """
    path, test_ids = Path(path).expanduser(), np.asarray(test_ids, np.int64)
    assert (np.diff(test_ids) > 0).all(), "test ids ascend"
    if not path.exists():
        raise UserError("the reconstructions do not exist", got=path, expected=_WANTED)
    source, ids, captions = _opened(path, test_ids, key)
    if captions is not None and len(captions) != len(source.names):
        seen, wanted = f"{len(captions)} captions", f"{len(source.names)}, one for each image"
        raise UserError(f"the captions of {path} are others than those of its images", got=seen, expected=wanted)
    if ids is not None:
        rows = _rows_by_id(path, source, ids, test_ids)
    elif len(source.names) == len(test_ids):
        rows = np.arange(len(test_ids))
    else:
        raise _another_number(path, len(source.names), len(test_ids))
    images = LazyImages(source, rows)
    ordered = None if captions is None else [captions[row] for row in rows.tolist()]
    return ForeignReconstructions(images, None if ids is None else test_ids, ordered, images.names)


def _opened(path: Path, test_ids: np.ndarray, key: str) -> tuple[ImageSource, np.ndarray | None, list[str] | None]:
    """The images, their stimulus ids and their captions as they lie, `(M,)` each."""
    if path.is_dir() and (path / RECONSTRUCTIONS).is_file():
        path = path / RECONSTRUCTIONS
    if path.is_dir():
        files = ImageFiles(_image_files(path))
        return files, _ids_of_names(files.paths, test_ids), _captions_of_folder(path, files.names)
    if path.suffix == ".safetensors":
        own = OwnReconstructions(path, key)
        return own, own.stimulus_ids, _captions_of_folder(path.parent, own.names)
    if path.suffix in (".pt", ".pth"):
        return PublishedTensor(path), None, _published_captions(path)
    raise UserError(f"{path} is of no known kind", expected=_WANTED)


def _image_files(folder: Path) -> list[Path]:
    """The folder's images, numbers in names sorted as numbers."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not files:
        others = sorted(p.name for p in folder.glob("*.pt") if p.stem.endswith(PUBLISHED_IMAGES))
        fix = f"one of its files: {', '.join(others[:5])}" if others else None
        raise UserError(f"{folder} holds no reconstruction", expected=_WANTED, fix=fix)
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
                f"{file} names no stimulus", got=f"beside {with_id.name}", expected="ids in all names, or none"
            )
    ids = np.array([int(match[1]) for match in found if match], np.int64)
    counted = len(ids) == len(test_ids) and ids.min() in (0, 1) and (np.diff(ids) == 1).all()
    return None if counted and not np.array_equal(ids, test_ids) else ids


def _rows_by_id(path: Path, source: ImageSource, ids: np.ndarray, test_ids: np.ndarray) -> np.ndarray:
    """The place of each test image's reconstruction in the source, `(N,)`."""
    row_of: dict[int, int] = {}
    for row, id_ in enumerate(ids.tolist()):
        if id_ in row_of:
            twice = f"{source.names[row_of[id_]]} and {source.names[row]}"
            raise UserError(f"{path} has two images of stimulus {id_}", got=twice, expected="one")
        row_of[id_] = row
    if len(beyond := np.flatnonzero(~np.isin(ids, test_ids))):
        from_one = np.array_equal(np.sort(ids) - 1, test_ids)
        raise UserError(
            f"{path}: {source.names[beyond[0]]} is of no test image",
            got=f"stimulus {ids[beyond[0]]}, and {len(beyond) - 1} more",
            expected=f"the {len(test_ids)} test images, {_a_few(test_ids)}",
            fix="lower every id by 1: they count from 0, NSD's own 73K ids from 1" if from_one else None,
        )
    missing = [id_ for id_ in test_ids.tolist() if id_ not in row_of]
    if missing:
        have = len(test_ids) - len(missing)
        raise _another_number(path, have, len(test_ids), f", without stimulus {_a_few(missing)}")
    return np.array([row_of[id_] for id_ in test_ids.tolist()], np.int64)


def _another_number(path: Path, seen: int, wanted: int, more: str = "") -> UserError:
    fix = None
    if seen == MINDEYE1_TEST_IMAGES:
        fix = f"data.test_split=test, the older split, if these are MindEye1's {seen} images"
    elif seen == nsd.NUM_SHARED_STIMULI:
        fix = f"data.test_split=new_test data.split=standard, if these are MindEye2's {seen} images"
    return UserError(
        f"{path} has not as many images as the test set",
        got=f"{seen} images{more}",
        expected=f"{wanted} images",
        fix=fix,
    )


def _a_few(ids: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _check_range(name: str, low: float, high: float) -> None:
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{name}: a value is not finite", expected="0 to 1")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        fix = "divide by 255" if high > 2 else "(x + 1) / 2, if they are of [-1, 1]"
        raise UserError(f"{name}: values out of range", got=f"{low:.3g} to {high:.3g}", expected="0 to 1", fix=fix)


def _captions_of_folder(folder: Path, names: Sequence[str]) -> list[str] | None:
    """The sentences of `captions.json`: a list in the order of the images, or an object by file name."""
    path = folder / CAPTIONS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no json", got=error) from error
    if isinstance(content, dict):
        if lacking := [name for name in names if name not in content]:
            raise UserError(f"{path} has no caption of an image", got=lacking[0], expected="one by each file's name")
        content = [content[name] for name in names]
    return _sentences(path, content)


def _published_captions(images: Path) -> list[str] | None:
    """The sentences in the file that the published code writes beside the images."""
    end = next((end for end in PUBLISHED_IMAGES if images.stem.endswith(end)), None)
    if end is None:
        return None
    path = images.with_name(images.stem.removesuffix(end) + PUBLISHED_CAPTIONS + images.suffix)
    return _sentences(path, read_published(path)) if path.is_file() else None


def _sentences(path: Path, content: Any) -> list[str]:
    if not isinstance(content, list | tuple) or not all(isinstance(sentence, str) for sentence in content):
        raise UserError(f"{path} holds no captions", got=described(content), expected="a list of sentences")
    return list(content)
