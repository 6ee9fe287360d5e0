"""The published GNet checkpoint, `gnet_multisubject.pt` (MindEye2, spec section 10).

One file of `torch.save` holds the weights of the encoder and of every subject's read-out (`best_params`), those of the
last epoch (`final_params`) and facts about each subject's voxels, neither of which is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.gnet import GNet
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming
from mindeye_pl.weights.safe_unpickling import read_torch

RENAMING = Renaming(
    {
        "enc.mu": "encoder.mean",
        "enc.pre.conv1.0.": "encoder.prefilter.0.",
        "enc.pre.conv2.0.": "encoder.prefilter.3.",
        "enc.enc.conv3.": "encoder.early.conv.",
        "enc.enc.bn1.": "encoder.early.norm.",
        **{
            f"enc.enc.conv{theirs}.{part}1.": f"encoder.{ours}.{'norm' if part == 'bn' else 'conv'}."
            for theirs, ours in {
                "4a": "fine.0",
                "4b": "fine.1",
                "5a": "coarse.0",
                "5b": "coarse.1",
                "6a": "coarse.2",
                "6b": "coarse.3",
            }.items()
            for part in ("bn", "conv")
        },
        "fwrfs.{i}.rf": "readouts.{i}.fields.",
        "fwrfs.{i}.w": "readouts.{i}.weight",
        "fwrfs.{i}.b": "readouts.{i}.bias",
    }
)


@dataclass(frozen=True)
class Sizes:
    """Arguments of `GNet`."""

    voxel_counts: dict[int, int]
    prefilter: tuple[int, int]
    early: int
    width: int
    trunk: int
    map_sizes: tuple[int, ...]


def _content(path: Path) -> dict[str, Any]:
    """Return the content of the file; objects that are neither tensors nor arrays are ignored."""
    content = read_torch(path, foreign="ignore")
    if not isinstance(content, dict) or not isinstance(content.get("best_params"), dict):
        seen = sorted(map(str, content))[:5] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} is no GNet checkpoint", got=seen, expected="a dict with best_params")
    return content


def read(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint file by dotted names: `enc.*`, and `fwrfs.{subject}.*`.

    Args:
        path: of the published format, or `.safetensors` with those names.

    Raises:
        UserError: if the file is missing, not whole, or holds something else. Nothing in it is executed.
    """
    if path.suffix == ".safetensors":
        return read_state(path)
    content = _content(path)
    state = _flat(content["best_params"], path)
    mean = content.get("input_mean")
    if "enc.mu" not in state and isinstance(mean, (np.ndarray, Tensor)):  # the published encoder starts from it
        state["enc.mu"] = torch.as_tensor(mean)
    return state


def _flat(nested: Mapping[Any, Any], path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of nested dicts, their keys joined by dots."""
    flat: dict[str, Tensor] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, path, f"{prefix}{key}.")
        elif isinstance(value, (Tensor, np.ndarray)):
            flat[f"{prefix}{key}"] = torch.as_tensor(value)
        else:
            raise UserError(f"{path}: {prefix}{key} is no tensor", got=type(value).__name__, expected="weights")
    return flat


def sizes(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Every size, read off the shapes.

    Raises:
        UserError: if a weight that every GNet has is missing.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise UserError(f"{path} is no GNet checkpoint", got=f"keys like {min(state, default='')}", expected=key)
        return tuple(state[key].shape)

    subjects = sorted({int(match[1]) for key in state if (match := re.match(r"fwrfs\.(\d+)\.", key))})
    if not subjects:
        raise UserError(f"{path} has no voxels", got="no best_params.fwrfs", expected="a read-out for each subject")
    maps = sum(key.startswith(f"fwrfs.{subjects[0]}.rf") for key in state)
    return Sizes(
        voxel_counts={subject: shape(f"fwrfs.{subject}.b")[0] for subject in subjects},
        prefilter=(shape("enc.pre.conv1.0.weight")[0], shape("enc.pre.conv2.0.weight")[0]),
        early=shape("enc.enc.conv3.weight")[0],
        width=shape("enc.enc.conv4a.conv1.weight")[0],
        trunk=shape("enc.enc.conv6b.conv1.weight")[0],
        map_sizes=tuple(shape(f"fwrfs.{subjects[0]}.rf{k}")[-1] for k in range(maps)),
    )


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part.
    """
    own = {}
    for key, value in state.items():
        if (renamed := RENAMING.to_own(key)) is None:
            raise UserError(f"{path} is no GNet checkpoint", got=key, expected="keys of best_params: enc, fwrfs")
        own[renamed] = value.long() if renamed.endswith("num_batches_tracked") else value.float()
    return own


def build(sizes: Sizes) -> GNet:
    """A model of these sizes, on the current default device."""
    return GNet(
        sizes.voxel_counts,
        prefilter=sizes.prefilter,
        early=sizes.early,
        width=sizes.width,
        trunk=sizes.trunk,
        map_sizes=sizes.map_sizes,
    )
