"""Building the configured model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.models.base import BrainDecoder


def build_model(config: Any, voxel_counts: Sequence[int]) -> BrainDecoder:
    """Return the configured model with fresh weights that depend on `seed` alone.

    Every node below `model` with a key `voxel_counts` gets the counts: such a network reads voxels.
    """
    torch.manual_seed(config.seed)
    return instantiate(config.model, **_with_voxel_counts(config.model, list(voxel_counts)))


def _with_voxel_counts(node: DictConfig, voxel_counts: list[int]) -> dict[str, Any]:
    """Return the overrides of a node that set all keys `voxel_counts` below it."""
    found: dict[str, Any] = {"voxel_counts": voxel_counts} if "voxel_counts" in node else {}
    for name, child in node.items():
        if isinstance(child, DictConfig) and (overrides := _with_voxel_counts(child, voxel_counts)):
            found[str(name)] = overrides
    return found


def voxel_counts(config: Any, weights: Mapping[str, Tensor]) -> list[int]:
    """Return V of each subject in weights of the configured system; empty if no weight tells it."""
    system: type[BrainDecoder] = get_class(config.model._target_)
    return system.voxel_counts_in(weights)


def empty_model(config: Any, voxel_counts: Sequence[int]) -> BrainDecoder:
    """Return the configured model on the meta device, where it takes no memory."""
    with torch.device("meta"):
        return build_model(config, voxel_counts)


def parameter_counts(config: DictConfig, voxel_counts: Sequence[int]) -> dict[str, int]:
    """Return the number of parameters of each part."""
    parts = empty_model(config, voxel_counts).parts()
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
