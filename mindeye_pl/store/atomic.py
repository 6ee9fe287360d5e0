"""Atomic writes: a temporary file or folder, fsync, rename."""

import json
import math
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_TEMPORARY = re.compile(r"\..+\.tmp")


@contextmanager
def replacing(path: Path, *, only_writer: bool = False) -> Iterator[Path]:
    """Yield a temporary path at which the block creates a file or a folder, then flush it and rename it to `path`.

    A file at `path` is the old one or the whole new one at every moment. If the block raises, what it wrote is removed.

    Args:
        path: final name; its folder must exist. A folder can replace an empty folder only.
        only_writer: no other process writes `path` now. The temporary name is then always the same, so that it
            overwrites the leftover of a killed process.
    """
    with temporary_path(path, only_writer=only_writer) as temporary:
        yield temporary
        flush_all(temporary)
        os.replace(temporary, path)


@contextmanager
def temporary_path(path: Path, *, only_writer: bool = False) -> Iterator[Path]:
    """Yield a free path in the same folder, on the same file system as `path`; remove what is there afterwards."""
    writer = "" if only_writer else f".{uuid.uuid4().hex[:12]}"
    temporary = path.with_name(f".{path.name}{writer}.tmp")
    remove(temporary)
    try:
        yield temporary
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write plain data as an indented json file, atomically."""
    write_text(path, json.dumps(content, indent=1))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an `.npy` file atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, which share no memory, as a safetensors file, atomically."""
    with replacing(path) as temporary:
        save_tensors(temporary, tensors, metadata)


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as `write_tensors`, but not atomically: into a folder that is renamed as a whole."""
    from safetensors.torch import save_file

    with _as_any_new_file(path):
        save_file(dict(tensors), str(path), dict(metadata) if metadata else None)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as a safetensors file, atomically."""
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(path) as temporary, _as_any_new_file(temporary):
        save_file(contiguous, str(temporary), dict(metadata) if metadata else None)


@contextmanager
def _as_any_new_file(path: Path) -> Iterator[None]:
    """Give a file of safetensors the permissions of any new one; the library makes it readable to its owner alone.

    An OSError names the file, which safetensors' own error does not.
    """
    path.touch()
    mode = path.stat().st_mode
    yield
    path.chmod(mode)


def write_stacked(path: Path, parts: Sequence[Path]) -> None:
    """Write a safetensors file of the tensors of many, stacked by name, atomically; one of them is in memory at a time.

    All parts have the same names, dtypes and shapes; a damaged one is refused by a UserError. The format is of the
    `safetensors` project: the length of a header, the header as json, and the tensors' bytes without gaps.
    """
    first = sorted(_tensors(parts[0]).items(), key=lambda item: (-_item_bytes(item[1]), item[0]))  # aligned
    header, start = {}, {}
    end = 0
    for name, one in first:
        start[name], end = end, end + len(one["data"]) * len(parts)
        shape = [len(parts), *one["shape"]]
        header[name] = {"dtype": one["dtype"], "shape": shape, "data_offsets": [start[name], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for place, part in enumerate(parts):
            tensors = _tensors(part)
            if _kinds(tensors.items()) != _kinds(first):
                raise _damaged_part(part, f"other tensors than in {parts[0].name}")
            for name, one in tensors.items():
                file.seek(8 + len(text) + start[name] + place * len(one["data"]))
                file.write(one["data"])


def _tensors(part: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, deserialize

    try:
        return dict(deserialize(part.read_bytes()))
    except SafetensorError as error:
        raise _damaged_part(part, error) from error


def _damaged_part(part: Path, got: object) -> UserError:
    return UserError(f"{part} is damaged", got=got, fix=f"rm {shlex.quote(str(part))}, and run again")


def _kinds(tensors: Iterable[tuple[str, Any]]) -> dict[str, tuple[str, list[int]]]:
    return {name: (one["dtype"], one["shape"]) for name, one in tensors}


def _item_bytes(one: Any) -> int:
    return len(one["data"]) // max(1, math.prod(one["shape"]))


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(path: Path) -> None:
    """Flush a file, or a folder with everything below it, to disk."""
    for below in path.rglob("*"):
        flush(below)
    flush(path)


def remove(path: Path) -> None:
    """Remove a file, a folder with everything below it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of their writes below a folder; nobody may be writing there."""
    for path in [path for path in folder.rglob(".*") if _TEMPORARY.fullmatch(path.name)]:
        remove(path)
