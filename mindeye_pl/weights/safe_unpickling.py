"""Reading of `torch.save` files without executing any of their content.

A pickle may call any function that it names, so only names of an allow-list are resolved. Numpy's functions are not on
it, because numpy accepts any dtype and builds arrays of object pointers from raw bytes. Placeholders, which accept
numbers and strings only, replace them.
"""

import collections
import math
import pickle
import re
import tarfile
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Tensors up to this size may repeat what is stored, as buffers of position ids do.
_SMALL_BYTES = 2**28

#: First byte of a pickle since protocol 2.
PICKLE = b"\x80"
_BEGINNING = 64

DOWNLOAD = "copy or download it again"


class _DType:
    """Placeholder of `numpy.dtype`: numbers, strings of fixed width, or Python objects, such as `f4`, `U11` or `O8`."""

    def __init__(self, code: str = "", *_: Any):
        known = re.fullmatch(r"[biufc][0-9]{1,2}|U[0-9]{1,6}|O8?", str(code))
        try:
            self.dtype = np.dtype(code) if known else None
        except TypeError:
            self.dtype = None

    def __setstate__(self, state: tuple) -> None:
        order, fields, names = state[1], state[2], state[3]
        if fields is not None or names is not None:
            self.dtype = None
        elif self.dtype is not None and order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Placeholder of `numpy.ndarray`; `content` is an array of numbers, nested lists of strings, or None."""

    def __init__(self, *_: Any):
        self.content: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran_order, raw = state
        dtype = kind.dtype if isinstance(kind, _DType) else None
        if dtype is None:
            return
        if dtype.kind == "O":
            if isinstance(raw, list) and len(shape) == 1 and all(isinstance(item, str) for item in raw):
                self.content = list(raw)
            return
        if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} has {len(raw)} bytes")
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran_order else "C")
        # torch only knows the byte order of this machine
        self.content = array.tolist() if dtype.kind == "U" else array.astype(dtype.newbyteorder("="))


def _scalar(kind: Any = None, raw: Any = b"") -> Any:
    """Placeholder of numpy's function that makes scalars; returns a Python number, or None."""
    array = _Array()
    array.__setstate__((1, (), kind, False, raw))
    return array.content.item() if isinstance(array.content, np.ndarray) else None


def _no_bytes() -> bytes:
    """Placeholder of `bytes`, which the pickle of an empty array calls without arguments."""
    return b""


def _encode(text: str, encoding: str) -> bytes:
    """Placeholder of `_codecs.encode`, by which pickles of protocol 2 hold bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


#: Names of a pickled array, before and since numpy 2.0, and their placeholders.
_ARRAYS: dict[str, Any] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "builtins.bytes": _no_bytes,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}
#: Names of tensors and plain containers. Storages are torch's own matter and do not get here.
_TENSORS: dict[str, Any] = {
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}


class _Ignored:
    """Placeholder of any other object: it accepts arguments, state and items, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Ignored":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Ignored":
        return _Ignored()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    append = extend = add = __setstate__

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    """Resolves allowed names, and every other name to `_Ignored`."""

    def find_class(self, module: str, name: str) -> Any:
        found = (_ARRAYS | _TENSORS).get(f"{module}.{name}", _Ignored)
        # A pickle may set attributes of what it names: those of a function would stay after the load.
        return partial(found) if isinstance(found, FunctionType) else found


def read_torch(
    path: Path,
    *,
    foreign: Literal["refuse", "ignore"] = "refuse",
    expected: str = "tensors, arrays and plain data",
    fix: str | None = None,
) -> Any:
    """Return the content of a `torch.save` file of tensors, arrays, strings, numbers and containers, on the CPU.

    Tensors are memory-mapped where the format allows it. Arrays of strings become lists, other arrays without numbers
    become None. Foreign objects are refused with `expected` and `fix` in the error, or replaced by empty placeholders.
    Raises a UserError if the file is missing or damaged, or holds foreign objects. Nothing in it is executed.
    """
    if not check_regular(path).is_file():
        raise UserError("the file does not exist", got=path, expected="a file of torch.save")
    try:
        mapped = _is_zipped(path)
        return _plain(_refusing(path, mapped) if foreign == "refuse" else _ignoring(path, mapped))
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        got = name[1] if name else "a pickle"
        raise UserError(f"{path} holds code, which was not executed", got=got, expected=expected, fix=fix) from error
    except Exception as error:  # a damaged pickle raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # torch has no message for an empty file
        raise UserError(f"{path} is damaged, or not a file of torch.save", got=reason, fix=DOWNLOAD) from error


def content_of(path: Path) -> str:
    """Describe in a few words a file that is no whole weight file, such as a failed download leaves in its place."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).lstrip()
    if beginning.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, which `git lfs pull` replaces"
    if beginning.lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    return f"{path.stat().st_size} bytes" if beginning else "an empty file"


def _is_zipped(path: Path) -> bool:
    """Return whether torch can map the file; raises a ValueError for the formats of loaders that run what they read.

    Text is refused too: the loader takes its first letter for an instruction, and calls the file one with code.
    """
    with path.open("rb") as file:
        beginning = file.read(4)
    zipped = beginning == b"PK\x03\x04"
    records = torch._C.PyTorchFileReader(str(path)).get_all_records() if zipped else []
    if any(name == "constants.pkl" or name.startswith("code/") for name in records):
        raise ValueError("a TorchScript archive")
    if not zipped and tarfile.is_tarfile(path):
        raise ValueError("a tar file")
    if not zipped and not beginning.startswith(PICKLE):
        raise ValueError(f"{content_of(path)}, no zip and no pickle")
    return zipped


def _refusing(path: Path, mapped: bool) -> Any:
    with torch.serialization.safe_globals([(placeholder, name) for name, placeholder in _ARRAYS.items()]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _ignoring(path: Path, mapped: bool) -> Any:
    module = ModuleType("restricted_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module, mmap=mapped)


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor that the file holds; raise a ValueError for one without data, or of a few numbers repeated."""
    if tensor.is_meta or tensor.layout != torch.strided:
        raise ValueError(f"a tensor {tuple(tensor.shape)} without data")
    size, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes()
    if size > max(stored, _SMALL_BYTES):
        raise ValueError(f"a tensor {tuple(tensor.shape)} of {size} bytes in {stored}")
    return tensor


def _plain(content: Any) -> Any:
    """Replace the placeholders of arrays by their content."""
    if isinstance(content, _Array):
        return content.content
    if isinstance(content, Tensor):
        return _stored(content)
    if isinstance(content, dict):
        return {_plain(key): _plain(value) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(map(_plain, content))
    return content
