"""`python -m mindeye_pl.weights.convert IN OUT.safetensors`: the tensors of a checkpoint whose pickle holds more.

Checkpoints of Lightning and DeepSpeed carry objects beside their tensors, and unpickling an object can run any code.
Here every class that is no tensor's becomes an inert stand-in: nothing of the file is executed.
"""

import argparse
import collections
import hashlib
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

#: What may be called while reading: makers of tensors and of plain containers.
_SAFE = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
#: Entries under which checkpoints keep their weights.
_STATE_KEYS = ("state_dict", "model_state_dict", "module", "model")


class _StandIn:
    """Takes the place of any object: it can be made, filled and called, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_StandIn":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_StandIn":
        return _StandIn()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    """Knows tensors and plain data, and nothing that could do harm."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE:
            return _SAFE[module, name]
        if module == "torch" and (name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        return _StandIn


def _pickle_module() -> ModuleType:
    """What `torch.load` takes in place of pickle."""
    module = ModuleType("inert_pickle")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return module


def read_inert(path: Path) -> Any:
    """The content of a `torch.save` file, foreign objects as inert stand-ins; tensors on the CPU.

    Raises:
        UserError: if it is missing or no whole checkpoint.
    """
    if not path.is_file():
        raise UserError("the checkpoint does not exist", got=path, expected="a file of torch.save")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_pickle_module())
    except Exception as error:  # whatever a damaged pickle makes of the reader
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no whole checkpoint", got=reason, fix="copy or download it again") from error


def convert(source: Path, target: Path) -> int:
    """Writes the tensors of a checkpoint's state dict under their own names and returns their number.

    Args:
        source: a file of `torch.save`.
        target: a `.safetensors` file whose header has the sha256 of the source; written beside, then renamed.

    Raises:
        UserError: if the source is missing, damaged, or holds no state dict.
    """
    from safetensors.torch import save_file

    if target.suffix != ".safetensors":
        raise UserError("the converted file", got=target, expected="a name that ends in .safetensors")
    content = read_inert(source)
    state = next((content[key] for key in _STATE_KEYS if key in content), content) if isinstance(content, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{source} holds no state dict", expected="tensors by name")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    beside = target.with_name(f".{target.name}.new")
    # Copies: safetensors refuses tensors that share memory.
    save_file(
        {key: value.detach().clone().contiguous() for key, value in tensors.items()}, str(beside), {"sha256": digest}
    )
    beside.replace(target)
    return len(tensors)


def main(arguments: list[str] | None = None) -> None:
    """The command; a user's mistake is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m mindeye_pl.weights.convert", description=__doc__)
    parser.add_argument("source", type=Path, help="checkpoint of torch.save: .ckpt, .pth, .pt, .bin")
    parser.add_argument("target", type=Path, help="file to write, .safetensors")
    given = parser.parse_args(arguments)
    try:
        count = convert(given.source, given.target)
    except UserError as error:
        print(f"mindeye_pl: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    print(f"{given.target}: {count} tensors; nothing else of {given.source} was kept, and nothing was executed")


if __name__ == "__main__":
    main()
