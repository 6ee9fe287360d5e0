"""Reading of weight files without executing any of their content."""

from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.sharing.folder import read_safetensors
from mindeye_pl.weights.safe_unpickling import read_torch


def read_state(path: Path, *, key: str = "state_dict") -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` or `torch.save` file, memory-mapped where the format allows it.

    The state dict is the entry `key` of a checkpoint, or the whole content. Raises a UserError if the file is missing,
    damaged, a pickle with code in it, or holds no tensors.
    """
    if not path.is_file():
        raise UserError("the checkpoint does not exist", got=path, expected="a .pth or .safetensors file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    fix = f"python -m mindeye_pl.weights.convert {path} {path.with_suffix('.safetensors')}"
    content = read_torch(path, expected="a checkpoint of plain tensors", fix=fix)
    state = content.get(key, content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        got = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} holds no state dict", got=got, expected=f"`{key}`, or tensors by name")
    return state
