"""Reconstructions that somebody else made, or another run, in the order of the test set and read a few at a time.

They come as a folder of PNG or JPEG files, as a published `.pt` file (MindEye2, spec section 8; MindEye1, section 8),
or as a folder of the step `reconstruct`. A thousand images of 768 pixels are 7 GB, so nothing but the images asked
for is in memory.

Legend: N test images, n of them asked for, M images of the source, H and W their size in pixels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mindeye_pl.data.image_sources import FETCH, read_pixels, read_size
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.steps.brain.reconstruct import CAPTIONS, RECONSTRUCTIONS
from mindeye_pl.store.json_files import read_json
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.weights.safe_unpickling import read_torch

#: Ends of the published file names: images from the unCLIP, refined, from the low-level branch; and captions.
_REFINED, _BLURRY = "_all_enhancedrecons", "_all_blurryrecons"
_PUBLISHED_IMAGES = ("_all_recons", _REFINED, _BLURRY)
_PUBLISHED_CAPTIONS = "_all_predcaptions"

#: Number of MindEye1's test images, of the split without the last three sessions.
_MINDEYE1_TEST_IMAGES = 982

_SUFFIXES = (".png", ".jpg", ".jpeg")
_WANTED = f"a folder of PNG or JPEG files, a published .pt file, or a folder with {RECONSTRUCTIONS}"

#: Rounding of half precision and of resizing that is put right without a word.
_TOLERANCE = 1e-3


class ImageSource(Protocol):
    """M images that stay on disk until they are asked for; each has a name for messages."""

    names: list[str]
    shape: tuple[int, int, int, int]  # (M, 3, H, W)

    def read(self, rows: np.ndarray) -> Tensor:
        """Return images `(n, 3, H, W)` of indices `(n,)`, as they are stored: uint8, or floating point in [0, 1]."""


class ImageFiles:
    """Image files in the order given; a file of another size or depth than the first is refused."""

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.names = list(paths), [path.name for path in paths]
        sizes = [read_size(path) for path in self.paths]
        for path, size in zip(self.paths, sizes, strict=True):
            if size != sizes[0]:
                first = f"{sizes[0][0]} x {sizes[0][1]} as {self.names[0]}"
                raise UserError(f"{path} has another size", got=f"{size[0]} x {size[1]}", expected=first)
        self.shape = (len(paths), 3, sizes[0][1], sizes[0][0])

    def read(self, rows: np.ndarray) -> Tensor:
        """Return uint8 images; raise a `UserError` for a file that is cut off."""
        return torch.stack([read_pixels(self.paths[row]) for row in rows.tolist()])


def read_published(path: Path) -> Any:
    """Return the tensor, the list of captions or other plain data in a file of `torch.save`; nothing is executed."""
    fix = "if you trust it, load it yourself and torch.save the bare tensor, or the list of strings"
    return read_torch(path, expected="a tensor, or captions", fix=fix)


def described(content: Any) -> str:
    """Describe unexpected content in a few words."""
    if isinstance(content, Tensor):
        return f"a tensor {tuple(content.shape)}"
    if isinstance(content, dict):
        return f"a dict of {', '.join(map(str, list(content)[:5]))}"
    return f"of type {type(content).__name__}"


class PublishedTensor:
    """One tensor `(M, 3, H, W)` in a file of `torch.save`, memory-mapped where its format allows it."""

    def __init__(self, path: Path):
        content = read_published(path)
        wanted = "a tensor (N, 3, H, W) of floats in [0, 1]"
        if not isinstance(content, Tensor):
            raise UserError(f"{path} holds no images", got=described(content), expected=wanted)
        if content.ndim != 4 or content.shape[1] != 3 or 0 in content.shape:
            raise UserError(f"{path} holds another tensor", got=tuple(content.shape), expected=wanted)
        if not (content.is_floating_point() or content.dtype == torch.uint8):
            raise UserError(f"{path} holds another tensor", got=content.dtype, expected=wanted)
        self._images = content.detach()
        self.shape: tuple[int, int, int, int] = tuple(content.shape)  # type: ignore[assignment]
        self.names = [f"image {index} of {path.name}" for index in range(len(content))]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return images as they are stored."""
        return self._images[torch.from_numpy(rows)]


class OwnReconstructions:
    """Images of the step `reconstruct`, with their stimulus ids."""

    def __init__(self, path: Path):
        self.path = path
        with self._opened() as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if "stimulus_ids" not in shapes:
                raise UserError(f"{path} names no stimuli", got=sorted(shapes), expected="stimulus_ids (N,)")
            self.stimulus_ids: np.ndarray = file.get_tensor("stimulus_ids").numpy().astype(np.int64)
        self.shape = shapes.get("images", ())
        if len(self.shape) != 4 or self.shape[1] != 3 or 0 in self.shape:
            raise UserError(f"{path} has no images", got=sorted(shapes), expected="images (N, 3, H, W)")
        if self.stimulus_ids.shape != self.shape[:1]:
            seen = f"{self.stimulus_ids.shape} stimulus ids"
            raise UserError(f"{path} names other images than it holds", got=seen, expected=f"({self.shape[0]},)")
        self.names = [f"stimulus {id_} of {path.name}" for id_ in self.stimulus_ids.tolist()]

    def _opened(self) -> Any:
        try:
            return safe_open(str(check_regular(self.path)), framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.path} is no whole safetensors file", got=error, fix=FETCH) from error

    def read(self, rows: np.ndarray) -> Tensor:
        """Return images as they are stored."""
        with self._opened() as file:
            images = file.get_slice("images")
            return torch.cat([images[row : row + 1] for row in rows.tolist()])


class LazyImages:
    """Images of a source in the order of its rows `(N,)`, float32 in [0, 1], read when they are asked for."""

    def __init__(self, source: ImageSource, rows: np.ndarray):
        self._source, self._rows = source, rows
        self.shape: tuple[int, int, int, int] = (len(rows), *source.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return images `(n, 3, H, W)` float32 in [0, 1], `(3, H, W)` for one index; refuse values out of range."""
        if isinstance(which, int):
            return self[[which]][0]
        rows = self._rows[which if isinstance(which, slice) else np.asarray(which)]
        images = self._source.read(rows)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        flat = images.flatten(1)
        for row, low, high in zip(rows.tolist(), flat.amin(1).tolist(), flat.amax(1).tolist(), strict=True):
            _check_range(self._source.names[row], low, high)
        return images.clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class ForeignReconstructions:
    """One reconstruction of each test image, in the order of the test set.

    Attributes:
        images: `(N, 3, H, W)` in [0, 1], read when they are asked for.
        names: N, of the images in their source.
        stimulus_ids: `(N,)` int64, None where the source has none and the images are matched by order.
        captions: N sentences; None where the source has none.
        blurry: the images of the low-level branch, in a published file beside the others; None where there is none.
    """

    images: LazyImages
    names: list[str]
    stimulus_ids: np.ndarray | None
    captions: list[str] | None
    blurry: LazyImages | None = None


def read_reconstructions_of(path: str | Path, test_ids: np.ndarray) -> ForeignReconstructions:
    """Open reconstructions of the test images; pixels are read later.

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

    Raises:
        UserError: if there is no such file, it holds something else, is damaged or a pickle with code; if an image is
            missing, too many, of no test image, or there twice.
    """
    path, test_ids = Path(path).expanduser(), np.asarray(test_ids, np.int64)
    assert (np.diff(test_ids) > 0).all(), "test ids ascend"
    source, ids, captions = _opened(path, test_ids)
    if ids is not None:
        rows = _rows_by_id(path, source, ids, test_ids)
    elif len(source.names) == len(test_ids):
        rows = np.arange(len(test_ids))
    else:
        raise _another_number(path, len(source.names), len(test_ids))
    names = [source.names[row] for row in rows.tolist()]
    ordered = None if captions is None else [captions[row] for row in rows.tolist()]
    found = LazyImages(source, rows)
    return ForeignReconstructions(found, names, None if ids is None else test_ids, ordered, _blurry(path, rows))


def check_reconstructions(path: str | Path) -> None:
    """Check what can be checked of reconstructions before the test images are known, without reading pixels.

    Raises a UserError as `read_reconstructions_of`.
    """
    path = Path(path).expanduser()
    source, _, _ = _opened(path, np.empty(0, np.int64))
    _blurry(path, np.arange(len(source.names)))


def _opened(path: Path, test_ids: np.ndarray) -> tuple[ImageSource, np.ndarray | None, list[str] | None]:
    """Return the images, their stimulus ids and their captions in the order of the source, `(M,)` each."""
    if not path.exists():
        raise UserError("the reconstructions do not exist", got=path, expected=_WANTED)
    source, ids, captions = _source(path, test_ids)
    if captions is not None and len(captions) != len(source.names):
        seen, wanted = f"{len(captions)} captions", f"{len(source.names)}, one for each image"
        raise UserError(f"the captions of {path} are others than those of its images", got=seen, expected=wanted)
    return source, ids, captions


def _source(path: Path, test_ids: np.ndarray) -> tuple[ImageSource, np.ndarray | None, list[str] | None]:
    if path.is_dir() and (path / RECONSTRUCTIONS).is_file():
        path = path / RECONSTRUCTIONS
    if path.is_dir():
        files = ImageFiles(_image_files(path))
        return files, _ids_of_names(files.paths, test_ids), _captions_of_folder(path, files.names)
    if path.suffix == ".safetensors":
        own = OwnReconstructions(path)
        return own, own.stimulus_ids, _captions_of_folder(path.parent, own.names)
    if path.suffix in (".pt", ".pth"):
        return PublishedTensor(path), None, _published_captions(path)
    raise UserError(f"{path} is of no known kind", expected=_WANTED)


def _image_files(folder: Path) -> list[Path]:
    """Return the folder's images, numbers in names sorted as numbers."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    if not files:
        others = sorted(p.name for p in folder.glob("*.pt") if p.stem.endswith(_PUBLISHED_IMAGES))
        fix = f"one of its files: {', '.join(others[:5])}" if others else None
        raise UserError(f"{folder} holds no reconstruction", expected=_WANTED, fix=fix)
    return sorted(files, key=lambda p: (_parts(p.stem), p.name))


def _parts(stem: str) -> list[str | int]:
    """Return text and numbers in turn, text first, so that two names compare part by part."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", stem))]


def _ids_of_names(files: Sequence[Path], test_ids: np.ndarray) -> np.ndarray | None:
    """Return the stimulus id in each name, `(M,)`; None where names have none, or only count the files."""
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
    """Return the index of each test image's reconstruction in the source, `(N,)`."""
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
    if seen == _MINDEYE1_TEST_IMAGES:
        fix = f"data.test_split=test, the older split, if these are MindEye1's {seen} images"
    elif seen == nsd.NUM_SHARED_STIMULI:
        fix = f"data.test_split=new_test data.split=standard, if these are MindEye2's {seen} images"
    what = f"{path} has not as many images as the test set"
    return UserError(what, got=f"{seen} images{more}", expected=f"{wanted} images", fix=fix)


def _a_few(ids: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")


def _check_range(name: str, low: float, high: float) -> None:
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{name}: a value is not finite", expected="0 to 1")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        fix = "divide by 255" if high > 2 else "(x + 1) / 2, if they are of [-1, 1]"
        raise UserError(f"{name}: values out of range", got=f"{low:.3g} to {high:.3g}", expected="0 to 1", fix=fix)


def _captions_of_folder(folder: Path, names: Sequence[str]) -> list[str] | None:
    """Return the sentences of `captions.json`: a list in the order of the images, or an object by file name."""
    path = folder / CAPTIONS
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no json", got=error) from error
    if isinstance(content, dict):
        if lacking := [name for name in names if name not in content]:
            raise UserError(f"{path} has no caption of an image", got=lacking[0], expected="one by each file's name")
        content = [content[name] for name in names]
    return _sentences(path, content)


def is_refined(images: Path) -> bool:
    """Return whether a file has the published name of refined images."""
    return images.stem.endswith(_REFINED)


def blurry_beside(images: Path) -> Path:
    """Return the published path of the blurry images of the same model."""
    return _beside(images, _BLURRY)


def companions(images: Path) -> list[Path]:
    """Return the published files beside a published file of images that are scored with it."""
    if not images.stem.endswith(_PUBLISHED_IMAGES):
        return []
    ends = (_PUBLISHED_CAPTIONS, _BLURRY) if is_refined(images) else (_PUBLISHED_CAPTIONS,)
    return [path for path in (_beside(images, end) for end in ends) if path.is_file()]


def _beside(images: Path, end: str) -> Path:
    known = next(known for known in _PUBLISHED_IMAGES if images.stem.endswith(known))
    return images.with_name(images.stem.removesuffix(known) + end + images.suffix)


def _blurry(images: Path, rows: np.ndarray) -> LazyImages | None:
    """Return the blurry images beside published refined ones."""
    if not is_refined(images) or not (path := blurry_beside(images)).is_file():
        return None
    blurry = PublishedTensor(path)
    if len(blurry.names) != len(rows):
        seen = f"{len(blurry.names)} images"
        raise UserError(f"{path} holds others than {images}", got=seen, expected=f"{len(rows)}, one for each image")
    return LazyImages(blurry, rows)


def _published_captions(images: Path) -> list[str] | None:
    """Return the sentences in the file that the published code writes beside the images."""
    if not images.stem.endswith(_PUBLISHED_IMAGES):
        return None
    path = _beside(images, _PUBLISHED_CAPTIONS)
    return _sentences(path, read_published(path)) if path.is_file() else None


def _sentences(path: Path, content: Any) -> list[str]:
    if not isinstance(content, list | tuple) or not all(isinstance(sentence, str) for sentence in content):
        raise UserError(f"{path} holds no captions", got=described(content), expected="a list of sentences")
    return list(content)
