"""MindEye1's published checkpoints: the system (MindEye1, spec sections 4.1 to 4.3), and its low-level model (7.1).

The system's file has backbone, projector and prior; that of the low-level model is `epoch120.pth`. The class-token
model (section 6.1) has another prior, that of a text-to-image model: its condition has the name of a text embedding,
and it keeps learned tokens for missing words.
"""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import MLPBackbone
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.published_systems import PublishedSystem
from mindeye_pl.weights.formats.renaming import count, older_attention_names

_PARTS = {
    "voxel2clip.lin0.0.": "alignment.network.linears.0.",
    "voxel2clip.lin0.1.": "backbone.network.mlp.stem.0.",
    "voxel2clip.mlp.{i}.": "backbone.network.mlp.blocks.{i}.",
    "voxel2clip.lin1.": "backbone.network.to_tokens.",
    "voxel2clip.projector.": "backbone.network.retrieval_head.",
}

_LOW_LEVEL = {
    "lin0.0.": "alignment.linears.0.",
    "lin0.1.": "mlp.stem.0.",
    "mlp.{i}.": "mlp.blocks.{i}.",
    "lin1.": "head.from_hidden.",
    "norm.": "head.norm.",
    "upsampler.": "head.to_latents.",
    # Released files and written ones have the attention's older names; today's are read too.
    **older_attention_names("upsampler.", "head.to_latents."),
    "maps_projector.": "head.to_maps.",
}

#: Learned tokens of the class-token prior, by their number of dimensions in the file; the project has two.
_DIMENSIONS = {"net.null_text_embeds": 3, "net.null_text_encodings": 3, "net.learned_query": 1}


def is_mindeye1(state: Mapping[str, Tensor]) -> bool:
    """Return if a state dict is MindEye1's and not MindEye2's, by its keys."""
    return any(key.startswith("voxel2clip.") for key in state)


class _MindEye1Format(PublishedSystem):
    """All-token checkpoints; class-token checkpoints are passed on to `_CLASS_TOKEN`."""

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        if not _has_class_token(state):
            return super().to_own(state, path)
        as_tokens = {key: _as_tokens(value) if key in _DIMENSIONS else value for key, value in state.items()}
        return _CLASS_TOKEN.to_own(as_tokens, path)

    def to_published(self, model: MindEye1) -> dict[str, Tensor]:
        """Return the state dict of a model of one subject; its low-level model has a file of its own."""
        branch = model.low_level is not None and model.low_level.uses_backbone
        if (subjects := len(model.voxel_counts)) != 1 or branch:
            got = f"{subjects} subjects" if subjects != 1 else "a low-level branch"
            expected = "a model of one subject, with low_level=none or low_level=separate"
            raise UserError("the published MindEye1 has no such model", got=got, expected=expected)
        if model.prior is None or model.prior.network.network.layout == "parallel":
            return self.published_state(model, without="low_level.")
        published = _CLASS_TOKEN.published_state(model, without="low_level.")
        for key, dimensions in _DIMENSIONS.items():
            published[key] = published[key].squeeze(0) if dimensions == 1 else published[key].unsqueeze(0)
        return published

    def build(self, state: Mapping[str, Tensor], path: Path) -> MindEye1:
        system = _CLASS_TOKEN if _has_class_token(state) else self
        shape = system.shapes(state, path)
        hidden_dim, voxel_count = shape("voxel2clip.lin0.0.weight")
        retrieval_dim, token_dim = shape("voxel2clip.projector.2.weight")
        num_tokens = shape("voxel2clip.lin1.weight")[0] // token_dim
        num_blocks = count(state, "voxel2clip.mlp.{i}.0.weight")
        sizes = {"num_blocks": num_blocks, "retrieval_dim": retrieval_dim}
        return MindEye1(
            FunctionalAlignment(PerSubjectLinear([voxel_count], hidden_dim)),
            Backbone(MLPBackbone(hidden_dim, num_tokens, token_dim, **sizes)),
            prior=system.build_prior(num_tokens, token_dim, state, path),
        )


class _LowLevelFormat(PublishedFormat):
    def to_published(self, model: LowLevelModel) -> dict[str, Tensor]:
        if (subjects := len(model.alignment.linears)) != 1:
            raise UserError("the published low-level model has one subject", got=subjects, expected="one subject")
        return self.renaming.to_published(model.state_dict())

    def build(self, state: Mapping[str, Tensor], path: Path) -> LowLevelModel:
        """Build the model; raises a UserError for variants whose grid does not have 64 channels."""
        shape = self.shapes(state, path)
        hidden_dim, voxel_count = shape("lin0.0.weight")
        channels = shape("norm.weight", 1)[0]
        if channels != LowLevelHead.channels:
            got, expected = f"a grid of {channels} channels", f"{LowLevelHead.channels} channels, upsampled 4 times"
            raise UserError(f"{path} is a low-level model that is not supported", got=got, expected=expected)
        blocks = max(1, count(state, "upsampler.up_blocks.{i}.resnets.0.conv1.weight"))
        first_layers = [f"upsampler.up_blocks.{block}.resnets.0.conv1.weight" for block in reversed(range(blocks))]
        return LowLevelModel(
            voxel_counts=(voxel_count,),
            hidden_dim=hidden_dim,
            num_blocks=count(state, "mlp.{i}.0.weight"),
            latent_channels=shape("upsampler.conv_out.weight", 4)[0],
            latent_size=4 * isqrt(shape("lin1.weight")[0] // channels),
            widths=tuple(shape(layer, 4)[0] for layer in first_layers),
            maps=any(key.startswith("maps_projector.") for key in state),
        )


def _has_class_token(state: Mapping[str, Tensor]) -> bool:
    return "net.null_text_embeds" in state


def _as_tokens(value: Tensor) -> Tensor:
    return value.flatten(0, -2) if value.ndim > 1 else torch.atleast_2d(value)


FORMAT = _MindEye1Format("MindEye1", _PARTS, target_scale="sqrt_width", renormalise="first_token")
_CLASS_TOKEN = PublishedSystem("MindEye1 class-token", _PARTS, target_scale="sqrt_width", layout="causal")
LOW_LEVEL = _LowLevelFormat("MindEye1 low-level", _LOW_LEVEL)
