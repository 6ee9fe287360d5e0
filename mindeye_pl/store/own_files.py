"""Reading files that the project wrote: where one is damaged, one line with the fix, or the file is made again."""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.store.json_files import parse_json
from mindeye_pl.store.manifest import FOLDER_ENTRIES, MANIFEST, read_manifest, rebuild
from mindeye_pl.store.regular_files import check_regular

if TYPE_CHECKING:
    from torch import Tensor

Content = TypeVar("Content")


def read_json(path: Path, kind: Any = dict[str, Any], *, fix: str | None = None) -> Any:
    """Return the content of a json file; one of a finished folder is compared with its checksum.

    Args:
        path: of the file.
        kind: type of its content.
        fix: of a damaged file; None for a file of a finished artifact, which is made again without its folder.

    Raises:
        UserError: if it is damaged, or holds something else.
        FileNotFoundError: if there is none.
    """
    content = check_regular(path).read_bytes()
    if fix is None and _checksum(path) not in (None, hashlib.sha256(content).hexdigest()):
        raise _damaged(path, "another checksum", fix)
    try:
        return TypeAdapter(kind).validate_python(parse_json(content))
    except ValidationError as error:
        raise _damaged(path, error.errors()[0]["msg"], fix) from error
    except ValueError as error:
        raise _damaged(path, error, fix) from error


def _checksum(path: Path) -> str | None:
    """Return the checksum of a file of a finished folder; None in a work folder."""
    if not (path.parent / MANIFEST).exists():
        return None
    digest: str | None = read_manifest(path.parent, FOLDER_ENTRIES)["sha256"].get(path.name)
    return digest


def read_tensors(path: Path, *, fix: str | None = None) -> "dict[str, Tensor]":
    """Return the tensors of a safetensors file; `fix` and errors as of `read_json`."""
    from safetensors.torch import load_file

    with _whole(path, fix):
        return load_file(str(path))


def read_arrays(path: Path, *, fix: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file; `fix` and errors as of `read_json`."""
    from safetensors.numpy import load_file

    with _whole(path, fix):
        return load_file(str(path))


@contextmanager
def opened_tensors(path: Path, framework: str = "pt", *, fix: str | None = None) -> Iterator[Any]:
    """Open a safetensors file whose tensors are read one by one; `fix` and errors as of `read_json`."""
    from safetensors import safe_open

    with _whole(path, fix), safe_open(str(path), framework=framework) as file:
        yield file


@contextmanager
def _whole(path: Path, fix: str | None) -> Iterator[None]:
    from safetensors import SafetensorError

    check_regular(path)
    try:
        yield
    except SafetensorError as error:
        raise _damaged(path, error, fix) from error


def holds_tensors(path: Path) -> bool:
    """Return if there is a safetensors file whose table of contents fits its size."""
    try:
        with opened_tensors(path) as file:
            return bool(file.keys())
    except (UserError, FileNotFoundError):
        return False


def read_or_make(path: Path, read: Callable[..., Content], make: Callable[[], None]) -> Content:
    """Return what `read`, one of the above, finds in a file of a work folder.

    `make` writes the file where it is missing, and again where it is damaged.
    """
    fix = run_again(path)
    if path.exists():
        try:
            return read(path, fix=fix)
        except UserError as error:
            console.print(f"{error.what}: it is made again", markup=False)
    make()
    return read(path, fix=fix)


def run_again(path: Path) -> str:
    """Return the fix of a damaged file in a work folder that its step writes again."""
    return f"rm {shlex.quote(str(path))}, and run again"


def _damaged(path: Path, got: object, fix: str | None) -> UserError:
    fix = fix or f"{rebuild(path.parent)}, and run again"
    return UserError(f"{path} is damaged", got=got, expected="the file that was written", fix=fix)
