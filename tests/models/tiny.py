"""Parts of tiny size, with random weights."""

from collections.abc import Sequence
from typing import Any

from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.low_level import LowLevel, SeparateLowLevel
from mindeye_pl.models.parts.mapper import Mapper
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import MixerBackbone, MLPBackbone
from mindeye_pl.nn.brain.diffusion_prior import DiffusionPriorModel
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.nn.brain.prior_network import PriorNetwork
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN


def alignment(voxel_counts: Sequence[int], hidden_dim: int = 12, **options: Any) -> FunctionalAlignment:
    return FunctionalAlignment(PerSubjectLinear(voxel_counts, hidden_dim), **options)


def mixer(hidden_dim: int = 12, num_tokens: int = 4, token_dim: int = 16, **options: Any) -> Backbone:
    part = {name: options.pop(name) for name in ("weight_decay", "gain_decay") if name in options}
    return Backbone(MixerBackbone(hidden_dim, num_tokens, token_dim, **({"num_blocks": 1} | options)), **part)


def residual_mlp(hidden_dim: int = 12, num_tokens: int = 4, token_dim: int = 16, **options: Any) -> Backbone:
    return Backbone(MLPBackbone(hidden_dim, num_tokens, token_dim, **({"num_blocks": 1, "retrieval_dim": 8} | options)))


def diffusion_model(num_tokens: int = 4, token_dim: int = 16, **options: Any) -> DiffusionPriorModel:
    own = {name: options.pop(name) for name in ("timesteps", "drop_probability", "target_scale") if name in options}
    sizes = {"depth": 1, "head_dim": 8, "heads": 2}
    return DiffusionPriorModel(PriorNetwork(num_tokens, token_dim, **(sizes | options)), **own)


def prior(num_tokens: int = 4, token_dim: int = 16, **options: Any) -> DiffusionPrior:
    names = ("sample_steps", "renormalise", "weight_decay", "gain_decay")
    part = {name: options.pop(name) for name in names if name in options}
    return DiffusionPrior(diffusion_model(num_tokens, token_dim, **options), **part)


def low_level(hidden_dim: int = 12, *, latent_size: int = 16, contrastive_scale: float = 0.1) -> LowLevel:
    return LowLevel(LowLevelHead(hidden_dim, latent_size=latent_size), contrastive_scale=contrastive_scale)


def separate_low_level(voxel_counts: Sequence[int], hidden_dim: int = 12, **options: Any) -> SeparateLowLevel:
    network = LowLevelModel(voxel_counts, hidden_dim, num_blocks=1, latent_size=8, widths=(4, 4, 8))
    return SeparateLowLevel(network, **options)


def mapper(voxel_counts: Sequence[int], embedding_dim: int = 6, **options: Any) -> Mapper:
    part = {name: options.pop(name) for name in ("weight_decay", "gain_decay", "lr_scale") if name in options}
    sizes = {"channels": 4, "num_blocks": 1, "hidden_dim": 5}
    return Mapper(VoxelCNN(voxel_counts, embedding_dim, **(sizes | options)), **part)
