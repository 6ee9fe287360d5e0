"""The published GNet checkpoint, `gnet_multisubject.pt` (MindEye2, spec section 10).

A `torch.save` file with the weights of the encoder and of each subject's readout (`best_params`). The weights of the
last epoch (`final_params`) and facts about each subject's voxels are not read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.gnet import GNet
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.safe_unpickling import read_torch

_BLOCKS = {"4a": "fine.0", "4b": "fine.1", "5a": "coarse.0", "5b": "coarse.1", "6a": "coarse.2", "6b": "coarse.3"}
_PREFIXES = {
    "enc.mu": "encoder.mean",
    "enc.pre.conv1.0.": "encoder.prefilter.0.",
    "enc.pre.conv2.0.": "encoder.prefilter.3.",
    "enc.enc.conv3.": "encoder.early.conv.",
    "enc.enc.bn1.": "encoder.early.norm.",
    **{f"enc.enc.conv{theirs}.bn1.": f"encoder.{ours}.norm." for theirs, ours in _BLOCKS.items()},
    **{f"enc.enc.conv{theirs}.conv1.": f"encoder.{ours}.conv." for theirs, ours in _BLOCKS.items()},
    "fwrfs.{i}.rf": "readouts.{i}.fields.",
    "fwrfs.{i}.w": "readouts.{i}.weight",
    "fwrfs.{i}.b": "readouts.{i}.bias",
}


class _GNetFormat(PublishedFormat):
    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the weights by dotted names, `enc.*` and `fwrfs.{subject}.*`; also from safetensors of these names."""
        if path.suffix == ".safetensors":
            return read_state(path)
        content = read_torch(path, foreign="ignore")  # objects that are neither tensors nor arrays
        if not isinstance(content, dict) or not isinstance(content.get("best_params"), dict):
            got = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
            raise self.refusal(path, got=got, expected="a dict with best_params")
        state = _flat(content["best_params"], path)
        mean = content.get("input_mean")
        if "enc.mu" not in state and isinstance(mean, (np.ndarray, Tensor)):  # the published encoder starts from it
            state["enc.mu"] = torch.as_tensor(mean)
        return state

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        return {
            key: value.long() if key.endswith("num_batches_tracked") else value.float()
            for key, value in super().to_own(state, path).items()
        }

    def build(self, state: Mapping[str, Tensor], path: Path) -> GNet:
        def size(key: str, dimension: int = 0) -> int:
            self.require(state, path, key)
            return state[key].shape[dimension]

        subjects = sorted({int(key.split(".")[1]) for key in state if key.startswith("fwrfs.")})
        if not subjects:
            raise UserError(f"{path} has no voxels", got="no best_params.fwrfs", expected="a readout for each subject")
        first = f"fwrfs.{subjects[0]}.rf"
        maps = sum(key.startswith(first) for key in state)
        return GNet(
            {subject: size(f"fwrfs.{subject}.b") for subject in subjects},
            prefilter=(size("enc.pre.conv1.0.weight"), size("enc.pre.conv2.0.weight")),
            early=size("enc.enc.conv3.weight"),
            width=size("enc.enc.conv4a.conv1.weight"),
            trunk=size("enc.enc.conv6b.conv1.weight"),
            map_sizes=[size(f"{first}{index}", -1) for index in range(maps)],
        )


def _flat(nested: Mapping[Any, Any], path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of nested dicts, their keys joined by dots."""
    flat: dict[str, Tensor] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, path, f"{prefix}{key}.")
        elif isinstance(value, (Tensor, np.ndarray)):
            flat[f"{prefix}{key}"] = torch.as_tensor(value)
        else:
            raise UserError(f"{path}: {prefix}{key} is no tensor", got=type(value).__name__, expected="weights")
    return flat


FORMAT = _GNetFormat("GNet", _PREFIXES)
