"""Reading weight files without executing anything that is in them."""

import pickle
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.sharing.folder import read_safetensors


def read_state(path: Path, *, key: str = "state_dict") -> dict[str, Tensor]:
    """The tensors of a checkpoint, memory-mapped where the format allows it.

    Args:
        path: a `.safetensors` file, or a file of `torch.save` that holds tensors.
        key: the entry of the checkpoint that holds the state dict; a bare state dict is taken too.

    Raises:
        UserError: when the file is missing, truncated, a pickle that would run code, or holds no tensors.
    """
    if not path.is_file():
        raise UserError("the checkpoint does not exist", got=path, expected="a .pth or .safetensors file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and was not executed",
            got=str(error).split("WeightsUnpickler error:")[-1].split("\n")[0].strip(),
            expected="a checkpoint of plain tensors",
            fix=f"python -m mindeye_pl.weights.convert {path} {path.with_suffix('.safetensors')}",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # of an empty file torch says nothing
        raise UserError(f"{path} is no whole checkpoint", got=reason, fix="copy or download it again") from error
    state = content.get(key, content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        seen = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} holds no state dict", got=seen, expected=f"`{key}`, or tensors by name")
    return state
