"""Images of somebody else's on disk, read a few at a time: files, an archive, a tensor, an array, own reconstructions.

Legend: M images of a source, n of them asked for, H and W their size in pixels.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mindeye_pl.data.image_sources import FETCH, decode_image, read_pixels, read_size
from mindeye_pl.data.natural_order import natural_key
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.weights.safe_unpickling import read_torch

#: Suffixes of image files.
SUFFIXES = (".png", ".jpg", ".jpeg")

#: Rounding of half precision and of resizing that is put right without a word.
_TOLERANCE = 1e-3
_TENSOR = "a tensor (N, 3, H, W) of floats in [0, 1]"
_ARRAY = "an array (N, 3, H, W) or (N, H, W, 3), of uint8 or of floats in [0, 1]"


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
                raise _another_size(path, size, self.names[0], sizes[0])
        self.shape = (len(paths), 3, sizes[0][1], sizes[0][0])

    def read(self, rows: np.ndarray) -> Tensor:
        """Return uint8 images; raise a `UserError` for a file that is cut off."""
        return torch.stack([read_pixels(self.paths[row]) for row in rows.tolist()])


class ImageArchive:
    """Image files in a zip archive, in natural order, read without unpacking it."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with zipfile.ZipFile(check_regular(path)) as archive:
                members = [name for name in archive.namelist() if _is_image(name)]
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is no whole zip archive", got=error, fix=FETCH) from error
        if not members:
            raise UserError(f"{path} holds no images", got="no PNG or JPEG file", expected="one for each test image")
        self._members = sorted(members, key=lambda name: natural_key(PurePosixPath(name).stem))
        self.names = [PurePosixPath(name).name for name in self._members]
        first = self._decoded([0])[0]
        self.shape = (len(members), *first.shape)

    def read(self, rows: np.ndarray) -> Tensor:
        """Return uint8 images; raise a `UserError` for a file that is cut off or of another size than the first."""
        images = self._decoded(rows.tolist())
        for row, image in zip(rows.tolist(), images, strict=True):
            if image.shape != self.shape[1:]:
                sizes = image.shape[:0:-1], self.shape[:1:-1]
                raise _another_size(f"{self.names[row]} of {self.path}", sizes[0], self.names[0], sizes[1])
        return torch.from_numpy(np.stack(images))

    def _decoded(self, rows: Sequence[int]) -> list[np.ndarray]:
        with zipfile.ZipFile(self.path) as archive:
            found = []
            for row in rows:
                name = f"{self._members[row]} of {self.path}"
                try:
                    content = archive.read(self._members[row])
                except (OSError, zipfile.BadZipFile, RuntimeError) as error:
                    raise UserError(f"{name} cannot be read", got=error, fix=FETCH) from error
                found.append(decode_image(content, name))
        return found


def _is_image(name: str) -> bool:
    """Return whether a file in an archive is an image and no companion file of macOS."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _another_size(path: object, got: Sequence[int], first: str, expected: Sequence[int]) -> UserError:
    wanted = f"{expected[0]} x {expected[1]} as {first}"
    return UserError(f"{path} has another size", got=f"{got[0]} x {got[1]}", expected=wanted)


class ArrayFile:
    """One array in a `.npy` file, memory-mapped; channels are its second or its last axis."""

    def __init__(self, path: Path):
        try:
            array = np.load(check_regular(path), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} cannot be read", got=str(error).splitlines()[0], expected=_ARRAY) from error
        if not isinstance(array, np.ndarray) or array.ndim != 4 or 0 in array.shape:
            raise UserError(f"{path} holds another array", got=getattr(array, "shape", "an archive"), expected=_ARRAY)
        channels = [axis for axis in (1, 3) if array.shape[axis] == 3]
        if len(channels) != 1:
            raise UserError(f"{path} holds another array", got=array.shape, expected=_ARRAY)
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise UserError(f"{path} holds another array", got=array.dtype, expected=_ARRAY)
        self._images = array if channels == [1] else np.moveaxis(array, 3, 1)
        self.shape: tuple[int, int, int, int] = self._images.shape
        self.names = [f"image {index} of {path.name}" for index in range(len(array))]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return images as they are stored."""
        return torch.from_numpy(np.ascontiguousarray(self._images[rows]))


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
        if not isinstance(content, Tensor):
            raise UserError(f"{path} holds no images", got=described(content), expected=_TENSOR)
        if content.ndim != 4 or content.shape[1] != 3 or 0 in content.shape:
            raise UserError(f"{path} holds another tensor", got=tuple(content.shape), expected=_TENSOR)
        if not (content.is_floating_point() or content.dtype == torch.uint8):
            raise UserError(f"{path} holds another tensor", got=content.dtype, expected=_TENSOR)
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


def _check_range(name: str, low: float, high: float) -> None:
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{name}: a value is not finite", expected="0 to 1")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        fix = "divide by 255" if high > 2 else "(x + 1) / 2, if they are of [-1, 1]"
        raise UserError(f"{name}: values out of range", got=f"{low:.3g} to {high:.3g}", expected="0 to 1", fix=fix)
