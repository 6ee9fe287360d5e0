"""The files of a shared folder, written whole or not at all, and read without executing anything that is in them."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.errors import UserError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"

#: The entry of `config.json` by which a folder is known as one of this project's; its value is the package's version.
MARK = "mindeye_pl"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yields a folder beside the final one; when the block ends, its files take their places.

    The configuration goes first and comes last, so that a folder that has one is whole, whatever happened.

    Raises:
        UserError: if the final folder holds something else, or may not be written.
    """
    folder = check_folder(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        yield beside
        folder.mkdir(exist_ok=True)
        _remove_earlier(folder)
        for path in sorted(beside.iterdir(), key=lambda path: path.name == CONFIG):
            os.replace(path, folder / path.name)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{folder} cannot be written", got=error.strerror, expected="a folder of yours") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_folder(folder: Path) -> Path:
    """The folder's absolute path, if a part can be written there.

    Raises:
        UserError: if it holds something else, which is not touched.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and not is_shared(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something else", expected="a new folder, an empty one, or an earlier export")
    return folder


def _remove_earlier(folder: Path) -> None:
    """An earlier export would leave weights beside the new ones that no longer belong to them."""
    (folder / CONFIG).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            path.unlink()
        elif is_shared(path):
            shutil.rmtree(path)


def is_shared(folder: Path) -> bool:
    """Whether a folder holds a shared part."""
    try:
        return MARK in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a shared folder.

    Raises:
        UserError: if it is missing, broken, or another program's.
    """
    path, wanted = folder / CONFIG, f"a folder of `save_pretrained` or pipeline=export, with {CONFIG} and {WEIGHTS}"
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read", got=error.strerror, expected=wanted) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no json", got=error, expected=wanted) from error
    if not isinstance(config, dict) or MARK not in config or not isinstance(config.get("model"), dict):
        raise UserError(f"{path} is another program's", expected=wanted)
    return config


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: if it is missing or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise UserError("the weights do not exist", got=path, expected="a .safetensors file") from error
    except SafetensorError as error:
        raise UserError(f"{path} is no whole safetensors file", got=error, fix="copy or download it again") from error
