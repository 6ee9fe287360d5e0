"""Files of `torch.save` that hold a tensor or sentences, read without executing anything that is in them.

The published code saves captions as a numpy array of strings, which is a pickle of numpy's own classes. These must not
be let in: numpy makes an array of objects out of any bytes, which then stand for pointers. So their names are given to
stand-ins, which know strings and nothing else.
"""

import pickle
import re
from math import prod
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.image_files import FETCH
from mindeye_pl.errors import UserError


class _StringType:
    """Stands for `numpy.dtype`, of strings of fixed width (`U11`), or of Python's strings (`O8`)."""

    def __init__(self, code: str, *_: bool):
        if not re.fullmatch(r"U[0-9]{1,6}|O8?", code):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({code})")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _StringArray:
    """Stands for `numpy.ndarray`; `strings` is filled when its state comes."""

    strings: list[str]

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, _, content = state
        if not isinstance(kind, _StringType) or len(shape) != 1:
            raise ValueError("no one-dimensional array of strings")
        if isinstance(content, bytes) and kind.code.startswith("U"):
            strings = np.frombuffer(content, f"{kind.order}{kind.code}").tolist()
        elif isinstance(content, list) and all(isinstance(string, str) for string in content):
            strings = list(content)
        else:
            raise ValueError("no array of strings")
        if len(strings) != prod(shape):
            raise ValueError("an array of another length than it says")
        self.strings = strings


def _start_array(*_: Any) -> _StringArray:
    """Stands for the function that begins the pickle of a numpy array."""
    return _StringArray()


#: The names of an array's pickle, that of its maker by numpy's version, and what they are given to.
_STAND_INS: list[Any] = [
    (_start_array, "numpy.core.multiarray._reconstruct"),
    (_start_array, "numpy._core.multiarray._reconstruct"),
    (_StringArray, "numpy.ndarray"),
    (_StringType, "numpy.dtype"),
]


def load_plain(path: Path) -> Any:
    """The tensor, list of strings or other plain data in a file; an array of strings comes as a list.

    A tensor is memory-mapped where the file is in the zip format.

    Raises:
        UserError: for a file that is cut off, is no such file, or a pickle with anything else in it.
    """
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path} holds more than tensors and strings and was not executed",
            got=named[1] if named else "a pickle",
            expected="a tensor, or captions",
            fix="where you trust it, load it yourself and torch.save the bare tensor, or the list of strings",
        ) from error
    except Exception as error:  # what a damaged pickle raises has no end
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} is no whole file of torch.save", got=lines[0], fix=FETCH) from error
    return content.strings if isinstance(content, _StringArray) else content


def described(content: Any) -> str:
    """A few words on what was found in place of what was wanted."""
    if isinstance(content, Tensor):
        return f"a tensor {tuple(content.shape)}"
    if isinstance(content, dict):
        return f"a dict of {', '.join(map(str, list(content)[:5]))}"
    return f"of type {type(content).__name__}"
