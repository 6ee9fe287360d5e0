"""The published MindEye2 checkpoint: its key names and what they say about sizes (MindEye2, spec sections 2 to 4).

Legend: V voxels, h hidden width, S tokens, D token width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye2
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.models.parts.backbone import Backbone
from mindeye_pl.models.parts.low_level import LowLevel
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import MixerBackbone
from mindeye_pl.nn.brain.low_level import LowLevelHead
from mindeye_pl.weights.deepspeed import is_deepspeed, read_deepspeed
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import STATE_KEY, count
from mindeye_pl.weights.formats.published_systems import PriorSizes, PublishedSystem

SYSTEM = PublishedSystem(
    "MindEye2",
    {
        "ridge.": "alignment.network.",
        "backbone.backbone_linear.": "backbone.network.to_tokens.",
        "backbone.clip_proj.": "backbone.network.retrieval_head.",
        **{
            f"backbone.{published}.{{i}}.{theirs}.": f"backbone.network.{own}.{{i}}.{ours}."
            for published, own in (("mixer_blocks1", "channel_blocks"), ("mixer_blocks2", "sequence_blocks"))
            for theirs, ours in (("0", "0"), ("1.0", "1"), ("1.3", "4"))
        },
        "backbone.blin1.": "low_level.network.from_hidden.",
        "backbone.bnorm.": "low_level.network.norm.",
        "backbone.bupsampler.": "low_level.network.to_latents.",
        "backbone.b_maps_projector.": "low_level.network.to_maps.",
    },
    prior_prefix="diffusion_prior.",
)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, read from a checkpoint.

    Attributes:
        voxel_counts: V of each subject in it.
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_blocks: mixer blocks.
        low_level: whether the low-level branch is present.
        prior: None where it has none.
    """

    voxel_counts: tuple[int, ...]
    hidden_dim: int
    num_tokens: int
    token_dim: int
    num_blocks: int
    low_level: bool
    prior: PriorSizes | None = None


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file, or of a folder that DeepSpeed saved.

    Raises:
        UserError: see `read_state` and `read_deepspeed`.
    """
    return read_deepspeed(path) if is_deepspeed(path) else read_state(path, key=STATE_KEY)


def sizes(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Every size, read off the shapes.

    Raises:
        UserError: when a weight that every MindEye2 has is missing.
    """
    shape = SYSTEM.shapes(state, path)
    alignments = count(state, "ridge.linears.{i}.weight")
    token_dim = shape("backbone.clip_proj.2.weight")[0]
    outputs, hidden_dim = shape("backbone.backbone_linear.weight")
    return Sizes(
        voxel_counts=tuple(shape(f"ridge.linears.{i}.weight")[1] for i in range(alignments)),
        hidden_dim=hidden_dim,
        num_tokens=outputs // token_dim,
        token_dim=token_dim,
        num_blocks=count(state, "backbone.mixer_blocks1.{i}.0.weight"),
        low_level="backbone.blin1.weight" in state,
        prior=SYSTEM.prior_sizes(state, path),
    )


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part of MindEye2.
    """
    return SYSTEM.to_own(state, path)


def to_published(model: MindEye2) -> dict[str, Tensor]:
    """The published state dict of a model.

    Raises:
        UserError: for a model whose weights mean something else to the published code.
    """
    if (mixer := getattr(model.backbone.network, "mixer", "none")) != "published":
        raise UserError(
            "the published code computes another backbone",
            got=f"fidelity.mixer={mixer}",
            expected="fidelity.mixer=published",
        )
    return SYSTEM.published_state(model)


def build(sizes: Sizes) -> MindEye2:
    """A model of these sizes, on the current default device."""
    return MindEye2(
        FunctionalAlignment(PerSubjectLinear(sizes.voxel_counts, sizes.hidden_dim)),
        Backbone(MixerBackbone(sizes.hidden_dim, sizes.num_tokens, sizes.token_dim, num_blocks=sizes.num_blocks)),
        LowLevel(LowLevelHead(sizes.hidden_dim)) if sizes.low_level else None,
        SYSTEM.build_prior(sizes.num_tokens, sizes.token_dim, sizes.prior),
    )
