"""Weight files, read without executing any of their content; the project's own hold the sizes of their model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.sharing.folder import assign, read_safetensors
from mindeye_pl.store.atomic import write_tensors
from mindeye_pl.store.json_files import parse_json
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.weights.safe_unpickling import DOWNLOAD, read_torch

Module = TypeVar("Module", bound=nn.Module)


def read_state(path: Path, *, key: str = "state_dict") -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` or `torch.save` file, memory-mapped where the format allows it.

    The state dict is the entry `key` of a checkpoint, or the whole content. Raises a UserError if the file is missing,
    damaged, a pickle with code in it, or holds no tensors.
    """
    if not check_regular(path).is_file():
        raise UserError("the checkpoint does not exist", got=path, expected="a .pth or .safetensors file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    fix = f"python -m mindeye_pl.weights.convert {path} {path.with_suffix('.safetensors')}"
    content = read_torch(path, expected="a checkpoint of plain tensors", fix=fix)
    state = content.get(key, content) if isinstance(content, dict) else None
    if not state or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        got = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} holds no state dict", got=got, expected=f"`{key}`, or tensors by name")
    return state


def save_own(path: Path, weights: Mapping[str, Tensor], sizes: Mapping[str, Any], *, half: bool = False) -> None:
    """Write weights to a `.safetensors` file, atomically, with the arguments that build the model as plain data.

    `half` stores floats as float16.
    """
    stored = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    if half:
        stored = {key: value.half() if value.is_floating_point() else value for key, value in stored.items()}
    write_tensors(path, stored, {"sizes": json.dumps(sizes)})


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return float32 weights and their model's sizes; raises a UserError if a file is missing, damaged or has none."""
    from safetensors import safe_open

    weights = read_state(path)
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
    if "sizes" not in header:
        raise UserError(f"{path} does not contain the sizes of its model", expected="a file that this project wrote")
    try:
        sizes = parse_json(header["sizes"])
    except ValueError as error:
        raise UserError(f"{path} names the sizes of its model in no json", got=error, fix=DOWNLOAD) from error
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, sizes


def fill(module: Module, weights: Mapping[str, Tensor]) -> Module:
    """Load weights, which must fit the whole module, freeze it and set eval mode."""
    return assign(module, weights).requires_grad_(False).eval()
