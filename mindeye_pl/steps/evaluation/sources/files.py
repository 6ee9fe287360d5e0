"""Where reconstructions of others are read from, a few at a time: image files, a published tensor, our own artifact.

Legend: n images asked for, N images of the source, H and W their size in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_files import FETCH, read_pixels, read_size
from mindeye_pl.errors import UserError
from mindeye_pl.weights.safe_unpickling import read_torch


class ImageSource(Protocol):
    """Images that stay on disk until they are asked for.

    Attributes:
        names: N, for the words that the user reads.
        shape: (N, 3, H, W).
    """

    names: list[str]
    shape: tuple[int, int, int, int]

    def read(self, rows: np.ndarray) -> Tensor:
        """Images `(n, 3, H, W)` of `(n,)` places, as they are stored: uint8, or floating point in [0, 1]."""


class ImageFiles:
    """Image files of one size, in the order given.

    Args:
        paths: N of them.

    Raises:
        UserError: for a file that is no image, or one of another size or depth than the first.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.names = list(paths), [path.name for path in paths]
        sizes = [read_size(path) for path in self.paths]
        for path, size in zip(self.paths, sizes, strict=True):
            if size != sizes[0]:
                first = f"{sizes[0][0]} x {sizes[0][1]} as {self.names[0]}"
                raise UserError(f"{path} has another size", got=f"{size[0]} x {size[1]}", expected=first)
        self.shape = (len(paths), 3, sizes[0][1], sizes[0][0])

    def read(self, rows: np.ndarray) -> Tensor:
        """See `ImageSource`; uint8.

        Raises:
            UserError: for a file that is cut off.
        """
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
    """One tensor `(N, 3, H, W)` in a file of `torch.save`, memory-mapped where its format allows it.

    Args:
        path: the file.

    Raises:
        UserError: for a file that is cut off, holds more than a tensor, or one of another shape or kind.
    """

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
        """See `ImageSource`."""
        return self._images[torch.from_numpy(rows)]


class OwnReconstructions:
    """Images of the step `reconstruct`, by the stimulus ids that stand beside them.

    Args:
        path: the safetensors file.
        key: which of its images.

    Raises:
        UserError: for a file that is cut off, is another program's, or has no such images.
    """

    def __init__(self, path: Path, key: str = "images"):
        self.path, self.key = path, key
        with self._opened() as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if "stimulus_ids" not in shapes:
                raise UserError(f"{path} names no stimuli", got=sorted(shapes), expected="stimulus_ids (N,)")
            self.stimulus_ids: np.ndarray = file.get_tensor("stimulus_ids").numpy().astype(np.int64)
        images = [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 3 and 0 not in shape]
        if key not in images:
            raise UserError(f"{path} has no images of this name", got=key, expected=" or ".join(sorted(images)))
        self.shape = shapes[key]
        if self.stimulus_ids.shape != self.shape[:1]:
            seen = f"{self.stimulus_ids.shape} stimulus ids"
            raise UserError(f"{path} names other images than it holds", got=seen, expected=f"({self.shape[0]},)")
        self.names = [f"stimulus {id_} of {path.name}" for id_ in self.stimulus_ids.tolist()]

    def _opened(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(str(self.path), framework="pt")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.path} is no whole safetensors file", got=error, fix=FETCH) from error

    def read(self, rows: np.ndarray) -> Tensor:
        """See `ImageSource`."""
        with self._opened() as file:
            images = file.get_slice(self.key)
            return torch.cat([images[row : row + 1] for row in rows.tolist()])
