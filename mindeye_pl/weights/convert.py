"""`python -m mindeye_pl.weights.convert IN OUT.safetensors`: convert a checkpoint to safetensors, without its objects.

Checkpoints of Lightning and DeepSpeed contain objects, and unpickling an object can run any code. Here placeholders
replace the objects, and nothing in the file is executed.
"""

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_tensors
from mindeye_pl.store.manifest import sha256
from mindeye_pl.weights.safe_unpickling import read_torch

#: Entries of checkpoints that hold the weights.
_STATE_KEYS = ("state_dict", "model_state_dict", "module", "model")


def convert(source: Path, target: Path) -> int:
    """Write the state dict of a `torch.save` file as `.safetensors`, atomically, and return the number of tensors.

    The header contains the sha256 of the source. Raises a UserError if the source is missing, damaged, or holds no
    state dict.
    """
    if target.suffix != ".safetensors":
        raise UserError("the converted file", got=target, expected="a name that ends in .safetensors")
    content = read_torch(source, foreign="ignore")
    state = next((content[key] for key in _STATE_KEYS if key in content), content) if isinstance(content, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{source} holds no state dict", expected="tensors by name")
    names_of_memory = Counter(value.untyped_storage().data_ptr() for value in tensors.values())
    apart = {
        key: value.detach().clone() if names_of_memory[value.untyped_storage().data_ptr()] > 1 else value.detach()
        for key, value in tensors.items()  # safetensors refuses names that share memory; all others stay in the file
    }
    write_tensors(target, {key: value.contiguous() for key, value in apart.items()}, {"sha256": sha256(source)})
    return len(tensors)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m mindeye_pl.weights.convert", description=__doc__)
    parser.add_argument("source", type=Path, help="checkpoint of torch.save: .ckpt, .pth, .pt, .bin")
    parser.add_argument("target", type=Path, help="file to write, .safetensors")
    given = parser.parse_args(arguments)
    logging.captureWarnings(True)  # of torch, into a log that nobody reads
    try:
        count = convert(given.source, given.target)
    except (UserError, OSError) as error:
        used = getattr(error, "filename", None) or given.target
        line = str(error) if isinstance(error, UserError) else f"{used} cannot be used (got: {error.strerror})"
        print(f"mindeye_pl: {' '.join(line.split())}", file=sys.stderr)
        sys.exit(2)
    print(f"{given.target}: {count} tensors; nothing else of {given.source} was kept, and nothing was executed")


if __name__ == "__main__":
    main()
