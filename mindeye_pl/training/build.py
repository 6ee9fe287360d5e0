"""Building the composite that the configuration describes, and moving weights in and out of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.models.base import BrainDecoder


def build_model(config: Any, voxel_counts: Sequence[int]) -> BrainDecoder:
    """The configured composite with fresh weights that depend on `seed` alone."""
    torch.manual_seed(config.seed)
    reads_voxels = [
        name for name, part in config.model.items() if isinstance(part, DictConfig) and "voxel_counts" in part
    ]
    return instantiate(config.model, **{name: {"voxel_counts": list(voxel_counts)} for name in reads_voxels})


def voxel_counts(config: Any, weights: Mapping[str, Tensor]) -> list[int]:
    """V of each subject that weights of the configured system are of; empty where they do not tell."""
    system: type[BrainDecoder] = get_class(config.model._target_)
    return system.voxel_counts_in(weights)


def parameter_counts(config: DictConfig, voxel_counts: Sequence[int]) -> dict[str, int]:
    """Parameters of each stage, built on the meta device: no memory, whatever the size."""
    with torch.device("meta"):
        model = build_model(config, voxel_counts)
    return {name: sum(p.numel() for p in stage.parameters()) for name, stage in model.parts().items()}
