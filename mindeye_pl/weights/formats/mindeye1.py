"""The published MindEye1 checkpoint: backbone, projector and prior in one file (MindEye1, spec sections 4.1 to 4.3).

The model of the class token alone (section 6.1) has another prior, that of a text-to-image model: its condition's place
is called a text's, and it keeps learned tokens for the words that a brain does not say.

Legend: V voxels, h hidden width, S tokens, D token width, R width of the projector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye1
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import MLPBackbone
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import STATE_KEY, count
from mindeye_pl.weights.formats.published_systems import PriorSizes, PublishedSystem

_PARTS = {
    "voxel2clip.lin0.0.": "alignment.network.linears.0.",
    "voxel2clip.lin0.1.": "backbone.network.mlp.stem.0.",
    "voxel2clip.mlp.{i}.": "backbone.network.mlp.blocks.{i}.",
    "voxel2clip.lin1.": "backbone.network.to_tokens.",
    "voxel2clip.projector.": "backbone.network.retrieval_head.",
}

SYSTEM = PublishedSystem("MindEye1", _PARTS, prior_options={"target_scale": "sqrt_width", "renormalise": "first_token"})
CLASS_TOKEN = PublishedSystem(
    "MindEye1 class-token", _PARTS, prior_options={"target_scale": "sqrt_width", "layout": "causal"}
)

#: Learned tokens of the class token's prior, by the number of dimensions that they have in the file instead of two.
_DIMENSIONS = {"net.null_text_embeds": 3, "net.null_text_encodings": 3, "net.learned_query": 1}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, read from a checkpoint.

    Attributes:
        voxel_count: V of its subject.
        hidden_dim: h.
        num_tokens: S, 1 in a checkpoint of the class token alone.
        token_dim: D.
        num_blocks: residual blocks.
        retrieval_dim: R.
        prior: None where it has none.
        class_token: whether the prior is that of the class token alone.
    """

    voxel_count: int
    hidden_dim: int
    num_tokens: int
    token_dim: int
    num_blocks: int
    retrieval_dim: int
    prior: PriorSizes | None
    class_token: bool


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path, key=STATE_KEY)


def is_mindeye1(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is one of MindEye1, and not MindEye2's, by its keys."""
    return any(key.startswith("voxel2clip.") for key in state)


def sizes(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Every size, read off the shapes.

    Raises:
        UserError: when a weight that every MindEye1 has is missing.
    """
    system = _system(state)
    shape = system.shapes(state, path)
    hidden_dim, voxel_count = shape("voxel2clip.lin0.0.weight")
    retrieval_dim, token_dim = shape("voxel2clip.projector.2.weight")
    return Sizes(
        voxel_count=voxel_count,
        hidden_dim=hidden_dim,
        num_tokens=shape("voxel2clip.lin1.weight")[0] // token_dim,
        token_dim=token_dim,
        num_blocks=count(state, "voxel2clip.mlp.{i}.0.weight"),
        retrieval_dim=retrieval_dim,
        prior=system.prior_sizes(state, path),
        class_token=system is CLASS_TOKEN,
    )


def _system(state: Mapping[str, Tensor]) -> PublishedSystem:
    return CLASS_TOKEN if "net.null_text_embeds" in state else SYSTEM


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part of MindEye1.
    """
    system = _system(state)
    if system is CLASS_TOKEN:
        state = {key: _as_tokens(value) if key in _DIMENSIONS else value for key, value in state.items()}
    return system.to_own(state, path)


def _as_tokens(value: Tensor) -> Tensor:
    return value.flatten(0, -2) if value.ndim > 1 else torch.atleast_2d(value)


def to_published(model: MindEye1) -> dict[str, Tensor]:
    """The published state dict of a model of one subject; its low-level model has a file of its own.

    Raises:
        UserError: for a model that the published code has no place for, or would compute otherwise.
    """
    branch = model.low_level is not None and model.low_level.uses_backbone
    if (subjects := len(model.alignment.network.linears)) != 1 or branch:
        raise UserError(
            "the published MindEye1 has one subject and no low-level branch",
            got=f"{subjects} subjects" if subjects != 1 else "a low-level branch",
            expected="a model of one subject, with low_level=none or low_level=separate",
        )
    system = SYSTEM if model.prior is None or model.prior.network.network.layout == "parallel" else CLASS_TOKEN
    published = system.published_state(model, without="low_level.")
    if system is SYSTEM:
        return published
    for key, dimensions in _DIMENSIONS.items():
        published[key] = published[key].squeeze(0) if dimensions == 1 else published[key].unsqueeze(0)
    return published


def build(sizes: Sizes) -> MindEye1:
    """A model of these sizes, on the current default device."""
    system = CLASS_TOKEN if sizes.class_token else SYSTEM
    return MindEye1(
        FunctionalAlignment(PerSubjectLinear([sizes.voxel_count], sizes.hidden_dim)),
        Backbone(
            MLPBackbone(
                sizes.hidden_dim,
                sizes.num_tokens,
                sizes.token_dim,
                num_blocks=sizes.num_blocks,
                retrieval_dim=sizes.retrieval_dim,
            )
        ),
        prior=system.build_prior(sizes.num_tokens, sizes.token_dim, sizes.prior),
    )
