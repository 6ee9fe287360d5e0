"""Checkpoints that hold numpy arrays beside their tensors, read without executing anything that is in them.

`torch.load(weights_only=True)` refuses numpy's arrays. Numpy's own way of rebuilding one is no answer: it takes any
dtype from the file, and one of object pointers can be made out of raw bytes. So the few names that a pickled array
consists of are read by stand-ins that know numbers and nothing else.
"""

import math
import pickle
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch

from mindeye_pl.errors import UserError

#: Kinds of numbers: bool, signed, unsigned, floating point, complex.
_KINDS = "biufc"


class _PlainType:
    """Takes the place of `numpy.dtype`: a kind of number, None for all else.

    Args:
        code: kind and size, `f4` for instance.
    """

    def __init__(self, code: str = "", *_: Any):
        kind, size = str(code)[:1], str(code)[1:]
        known = bool(kind) and kind in _KINDS and size.isdigit()
        try:
            self.dtype = np.dtype(code) if known else None
        except TypeError:
            self.dtype = None

    def __setstate__(self, state: tuple) -> None:
        order, described, names = state[1], state[2], state[3]
        if described is not None or names is not None:  # a dtype of several parts
            self.dtype = None
        elif self.dtype is not None and order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _PlainArray:
    """Takes the place of `numpy.ndarray` and of its maker; `array` is None unless it is of numbers."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, columns_first, raw = state
        if isinstance(kind, _PlainType) and kind.dtype is not None and isinstance(raw, bytes):
            if len(raw) != math.prod(shape) * kind.dtype.itemsize:
                raise ValueError(f"an array of {shape} has {len(raw)} bytes")
            flat = np.frombuffer(raw, kind.dtype)
            array = flat.reshape(shape, order="F" if columns_first else "C")
            self.array = array.astype(kind.dtype.newbyteorder("="))  # torch knows the machine's own order only


class _PlainScalar:
    """Takes the place of the maker of numpy's scalars."""

    def __init__(self, kind: Any = None, raw: Any = b"", *_: Any):
        array = _PlainArray()
        array.__setstate__((1, (), kind, False, raw))
        self.value = None if array.array is None else array.array.item()


def _no_bytes() -> bytes:
    """Takes the place of `bytes`, which the pickle of an empty array calls without arguments."""
    return b""


#: What a pickled array may call, under the names of numpy before and since 2.0.
_STAND_INS: list[Any] = [
    (_PlainType, "numpy.dtype"),
    (_PlainArray, "numpy.ndarray"),
    (_no_bytes, "builtins.bytes"),
    *[
        (stand_in, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for stand_in, name in ((_PlainArray, "_reconstruct"), (_PlainScalar, "scalar"))
    ],
]


def read_with_arrays(path: Path) -> Any:
    """The content of a `torch.save` file of tensors, numpy arrays and plain containers.

    Tensors are memory-mapped where the format allows it. Arrays of anything but numbers are None.

    Raises:
        pickle.UnpicklingError: for objects of any other class; nothing of them was executed.
        UserError: if the file is missing or not whole.
    """
    if not path.is_file():
        raise UserError("the checkpoint does not exist", got=path, expected="a file of torch.save")
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError:
        raise
    except (RuntimeError, EOFError, OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no whole checkpoint", got=reason, fix="copy or download it again") from error
    return _unwrapped(content)


def _unwrapped(content: Any) -> Any:
    """The same with arrays and numbers in place of their stand-ins."""
    if isinstance(content, _PlainArray):
        return content.array
    if isinstance(content, _PlainScalar):
        return content.value
    if isinstance(content, dict):
        return {_unwrapped(key): _unwrapped(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)) and not isinstance(content, torch.Size):
        return [_unwrapped(item) for item in content]
    return content
