"""Files of a shared folder: written atomically, and read without executing any of their content."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import flush, flush_all, remove, temporary_path
from mindeye_pl.store.json_files import read_json
from mindeye_pl.store.regular_files import check_regular

Module = TypeVar("Module", bound=nn.Module)

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

#: Entry of `config.json` that marks a folder of this project; its value is the package's version.
MARK = "mindeye_pl"

#: File in a folder while its export is moved there: after a kill the same command finishes it.
_UNFINISHED = ".unfinished-export"


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends, move its files into `folder`.

    The configuration is removed first and moved last, so that a folder with a configuration is complete at all times.
    Raises a UserError if the final folder holds something else, or may not be written.
    """
    folder = check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_path(folder, only_writer=True) as temporary:
            temporary.mkdir()
            yield temporary
            flush_all(temporary)
            folder.mkdir(exist_ok=True)
            (folder / _UNFINISHED).touch()
            _remove_export(folder)
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == CONFIG):
                os.replace(path, folder / path.name)
            (folder / _UNFINISHED).unlink()
            flush(folder)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{folder} cannot be written", got=error.strerror, expected="a folder of your own") from error


def check_folder(folder: Path) -> Path:
    """Return the absolute path of a folder for a part; raises a UserError if it holds something else."""
    folder = folder.expanduser().absolute()
    is_own = is_shared(folder) or (folder / _UNFINISHED).is_file()
    if folder.exists() and not is_own and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something else", expected="a new folder, an empty one, or a previous export")
    return folder


def _remove_export(folder: Path) -> None:
    """Remove a previous export, whose weights do not belong to the new one; keep all other files."""
    (folder / CONFIG).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors" or is_shared(path):
            remove(path)


def is_shared(folder: Path) -> bool:
    """Return if a folder holds a shared part."""
    try:
        return MARK in read_json(folder / CONFIG)
    except (UserError, OSError, ValueError, TypeError):
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """Return a shared folder's configuration; raises a UserError if it is missing, damaged, or of another program."""
    path, expected = folder / CONFIG, f"a folder of `save_pretrained` or pipeline=export, with {CONFIG} and {WEIGHTS}"
    try:
        config = read_json(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read", got=error.strerror, expected=expected) from error
    except ValueError as error:
        raise UserError(f"{path} is not json", got=error, expected=expected) from error
    if not isinstance(config, dict) or MARK not in config or not isinstance(config.get("model"), dict):
        raise UserError(f"{path} was written by another program", expected=expected)
    return config


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises a UserError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(check_regular(path)))
    except FileNotFoundError as error:
        raise UserError("the weights do not exist", got=path, expected="a .safetensors file") from error
    except SafetensorError as error:
        what, fix = f"{path} is damaged, or not a safetensors file", "copy or download it again"
        raise UserError(what, got=error, fix=fix) from error


def assign(module: Module, weights: Mapping[str, Tensor]) -> Module:
    """Give a module its weights without a second copy, in memory of their own.

    What was read from a file is mapped, and a process that reads a mapped file ends where the file is overwritten in
    place, by another download for instance.
    """
    module.load_state_dict({name: _owned(value) for name, value in weights.items()}, assign=True)
    return module


def _owned(value: Tensor) -> Tensor:
    return value if value.untyped_storage().resizable() else value.clone()  # a mapped storage cannot be resized
