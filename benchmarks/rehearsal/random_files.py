"""Weight files of any size with seeded random values, written through a memory map and so in no memory of their own."""

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mindeye_pl.store.atomic import replacing

#: Values repeat after so many; a prime, so that no two rows of a matrix are equal.
_PERIOD = 4_194_301
#: Names of `safetensors` types.
_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}


def write_safetensors(path: Path, state: Mapping[str, Tensor], seed: int) -> None:
    """Write a `.safetensors` file; tensors on the meta device get random values, others keep theirs."""
    state = dict(sorted(state.items(), key=lambda item: -item[1].itemsize))  # each at a multiple of its element's size
    entries, end = {}, 0
    for key, value in state.items():
        entries[key] = {
            "dtype": _TYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [end, end + value.nbytes],
        }
        end += value.nbytes
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at multiples of eight bytes
    begin = 8 + len(header)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(begin + end)
        content = torch.from_file(str(temporary), shared=True, size=begin + end, dtype=torch.uint8)
        for key, value in state.items():
            first, last = entries[key]["data_offsets"]
            place = content[begin + first : begin + last].view(value.dtype).view(value.shape)
            _draw(key, place, seed) if value.is_meta else place.copy_(value)


def write_torch(path: Path, content: Any, seed: int) -> None:
    """Write a `torch.save` file of nested dicts; tensors on the meta device get random values, others keep theirs."""
    with replacing(path) as temporary:
        with FakeTensorMode(), torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save(_without_data(content), temporary)
        with _written_through():
            stored = torch.load(temporary, mmap=True, weights_only=False)
            for key, wanted, place in _pairs(content, stored):
                _draw(key, place, seed) if wanted.is_meta else place.copy_(wanted)


@contextmanager
def _written_through() -> Iterator[None]:
    """Make `torch.load` map files so that a change of a tensor is one of the file."""
    before = torch.serialization.get_default_mmap_options()
    torch.serialization.set_default_mmap_options(mmap.MAP_SHARED)
    try:
        yield
    finally:
        torch.serialization.set_default_mmap_options(before)


def _without_data(content: Any) -> Any:
    """Replace every tensor by one of the same shape without memory, which is stored as one of the CPU."""
    if isinstance(content, dict):
        return {key: _without_data(value) for key, value in content.items()}
    return torch.empty(content.shape, dtype=content.dtype) if isinstance(content, Tensor) else content


def _pairs(content: Any, stored: Any, key: str = "") -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name of each tensor, the tensor, and its place in the file."""
    if isinstance(content, Tensor):
        yield key, content, stored
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _pairs(value, stored[name], f"{key}.{name}")


def _draw(key: str, stored: Tensor, seed: int) -> None:
    """Fill a weight with values under which activations keep their size through the layers."""
    name = key.rsplit(".", 1)[-1]
    if not stored.is_floating_point():
        stored.copy_(torch.arange(stored.numel()).view(stored.shape) if name == "position_ids" else torch.zeros(()))
    elif name == "logit_scale":
        stored.fill_(math.log(100))
    elif stored.ndim == 1 and name in ("weight", "gamma", "g", "running_var"):
        stored.fill_(1)
    else:
        deviation = 0.02 if stored.ndim <= 1 else (stored.numel() / stored.shape[0]) ** -0.5
        for part in stored.view(-1).split(_PERIOD):
            torch.mul(_normal(seed)[: len(part)], deviation, out=part)


@cache
def _normal(seed: int) -> Tensor:
    return torch.randn(_PERIOD, generator=torch.Generator().manual_seed(seed))
