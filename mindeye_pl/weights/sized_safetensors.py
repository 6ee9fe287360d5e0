"""The project's own foundation weights: safetensors whose header holds the sizes of the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_tensors
from mindeye_pl.weights.files import read_state


def save_own(path: Path, weights: Mapping[str, Tensor], sizes: Mapping[str, Any], *, half: bool = False) -> None:
    """Write weights to a `.safetensors` file, atomically, with the arguments that build the model as plain data.

    `half` stores floats as float16.
    """

    def stored(value: Tensor) -> Tensor:
        value = value.detach().cpu().contiguous()
        return value.half() if half and value.is_floating_point() else value

    write_tensors(path, {key: stored(value) for key, value in weights.items()}, {"sizes": json.dumps(sizes)})


def read_own(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights in float32, and the sizes of their model.

    Raises a UserError if the file is missing, damaged, or holds no sizes.
    """
    from safetensors import safe_open

    weights = read_state(path)
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
    if "sizes" not in header:
        raise UserError(f"{path} does not contain the sizes of its model", expected="a file that this project wrote")
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, json.loads(header["sizes"])


def fill(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Load weights, which must fit the whole module, freeze it and set eval mode."""
    module.load_state_dict(dict(weights), assign=True)
    return module.requires_grad_(False).eval()
