"""Models built from their configuration."""

from collections.abc import Mapping, Sequence

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.models.base import BrainDecoder


def build_model(config: DictConfig, voxel_counts: Sequence[int]) -> BrainDecoder:
    """Return the configured model with fresh weights that depend on `seed` alone."""
    torch.manual_seed(config.seed)
    reads_voxels = [
        name for name, part in config.model.items() if isinstance(part, DictConfig) and "voxel_counts" in part
    ]
    return instantiate(config.model, **{name: {"voxel_counts": list(voxel_counts)} for name in reads_voxels})


def voxel_counts(config: DictConfig, weights: Mapping[str, Tensor]) -> list[int]:
    """Return V of each subject in weights of the configured system; empty where they do not determine it."""
    system: type[BrainDecoder] = get_class(config.model._target_)
    return system.voxel_counts_in(weights)


def parameter_counts(config: DictConfig, voxel_counts: Sequence[int]) -> dict[str, int]:
    """Return the number of parameters of each part, built on the meta device, without memory."""
    with torch.device("meta"):
        model = build_model(config, voxel_counts)
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
