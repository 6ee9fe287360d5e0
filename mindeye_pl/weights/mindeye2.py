"""The published MindEye2 checkpoint: its key names and what they say about sizes (MindEye2, spec sections 2 to 4).

Legend: V voxels, h hidden width, S tokens, D token width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.stages.backbone import Backbone
from mindeye_pl.stages.diffusion_prior import DiffusionPrior
from mindeye_pl.stages.functional_alignment import FunctionalAlignment
from mindeye_pl.stages.low_level import LowLevel
from mindeye_pl.stages.mindeye2 import MindEye2
from mindeye_pl.weights.deepspeed import is_deepspeed, read_deepspeed
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.renaming import Renaming

#: The entry of a checkpoint that holds the state dict.
STATE_KEY = "model_state_dict"

#: The one table of rotary frequencies, which the published file repeats for every layer.
ROTARY = "prior.network.network.transformer.rotary.frequencies"
_PUBLISHED_ROTARY = "diffusion_prior.net.causal_transformer.layers.{}.0.rotary_emb.freqs"

_LAYER = "diffusion_prior.net.causal_transformer.layers.0.0"

#: Published key to the project's own, in both directions; `{i}` stands for a number.
RENAMING = Renaming(
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
        "diffusion_prior.noise_scheduler.": "prior.network.schedule.",
        "diffusion_prior.net.learned_query": "prior.network.network.position_query",
        "diffusion_prior.net.null_brain_embeds": "prior.network.network.null_brain_tokens",
        "diffusion_prior.net.null_image_embed": "prior.network.network.null_noisy_tokens",
        "diffusion_prior.net.to_time_embeds.0.1.net.0.0.": "prior.network.network.time_embedding.network.0.",
        "diffusion_prior.net.to_time_embeds.0.1.net.1.0.": "prior.network.network.time_embedding.network.2.",
        "diffusion_prior.net.to_time_embeds.0.1.net.2.": "prior.network.network.time_embedding.network.4.",
        **{
            f"diffusion_prior.net.causal_transformer.{theirs}": f"prior.network.network.transformer.{ours}"
            for theirs, ours in {
                "rel_pos_bias.relative_attention_bias.": "position_bias.bias.",
                "norm.g": "norm.gain",
                "project_out.": "project_out.",
                "layers.{i}.0.norm.g": "attention.{i}.norm.gain",
                "layers.{i}.0.to_q.": "attention.{i}.to_queries.",
                "layers.{i}.0.to_kv.": "attention.{i}.to_key_value.",
                "layers.{i}.0.null_kv": "attention.{i}.null_key_value",
                "layers.{i}.0.to_out.0.": "attention.{i}.to_out.",
                "layers.{i}.0.to_out.1.g": "attention.{i}.out_norm.gain",
                "layers.{i}.1.0.g": "feed_forward.{i}.norm.gain",
                "layers.{i}.1.1.": "feed_forward.{i}.expand.",
                "layers.{i}.1.5.": "feed_forward.{i}.contract.",
            }.items()
        },
    }
)


@dataclass(frozen=True)
class Sizes:
    """What a checkpoint says of its model.

    Attributes:
        voxel_counts: V of each subject in it.
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_blocks: mixer blocks.
        low_level: whether the low-level branch is present.
        prior_depth: layers of the prior, 0 where it has none.
        prior_head_dim: width of its attention heads.
        prior_heads: their number.
        prior_timesteps: of its schedule.
    """

    voxel_counts: tuple[int, ...]
    hidden_dim: int
    num_tokens: int
    token_dim: int
    num_blocks: int
    low_level: bool
    prior_depth: int = 0
    prior_head_dim: int = 0
    prior_heads: int = 0
    prior_timesteps: int = 0


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

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise UserError(f"{path} is no MindEye2 checkpoint", seen=f"keys like {sorted(state)[0]}", wanted=key)
        return tuple(state[key].shape)

    alignments = _count(state, r"ridge\.linears\.(\d+)\.weight")
    token_dim = shape("backbone.clip_proj.2.weight")[0]
    outputs, hidden_dim = shape("backbone.backbone_linear.weight")
    depth = _count(state, r"diffusion_prior\.net\.causal_transformer\.layers\.(\d+)\.0\.norm\.g")
    head_dim = shape(f"{_LAYER}.null_kv")[1] if depth else 0
    return Sizes(
        voxel_counts=tuple(shape(f"ridge.linears.{i}.weight")[1] for i in range(alignments)),
        hidden_dim=hidden_dim,
        num_tokens=outputs // token_dim,
        token_dim=token_dim,
        num_blocks=_count(state, r"backbone\.mixer_blocks1\.(\d+)\.0\.weight"),
        low_level="backbone.blin1.weight" in state,
        prior_depth=depth,
        prior_head_dim=head_dim,
        prior_heads=shape(f"{_LAYER}.to_q.weight")[0] // head_dim if depth else 0,
        prior_timesteps=shape("diffusion_prior.noise_scheduler.betas")[0] if depth else 0,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    numbers = [int(match[1]) for key in state if (match := re.fullmatch(pattern, key))]
    return max(numbers, default=-1) + 1


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part of MindEye2.
    """
    own = {}
    for key, value in state.items():
        if re.fullmatch(_PUBLISHED_ROTARY.format(r"\d+"), key):
            own[ROTARY] = value
        elif (renamed := RENAMING.to_own(key)) is None:
            raise UserError(
                f"{path} is no MindEye2 checkpoint", seen=key, wanted="keys of ridge, backbone, diffusion_prior"
            )
        else:
            own[renamed] = value
    return own


def to_published(model: MindEye2) -> dict[str, Tensor]:
    """The published state dict of a model.

    Raises:
        UserError: for a model whose weights mean something else to the published code.
    """
    if model.backbone.network.mixer != "published":
        raise UserError(
            "the published code computes another backbone",
            seen=f"fidelity.mixer={model.backbone.network.mixer}",
            wanted="fidelity.mixer=published",
        )
    published: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key == ROTARY:
            assert model.prior is not None
            depth = len(model.prior.network.network.transformer.attention)
            published |= {_PUBLISHED_ROTARY.format(layer): value for layer in range(depth)}
            continue
        renamed = RENAMING.to_published(key)
        assert renamed is not None, key
        published[renamed] = value
    return published


def build(sizes: Sizes) -> MindEye2:
    """A model of these sizes, on the current default device."""
    prior = None
    if sizes.prior_depth:
        prior = DiffusionPrior(
            sizes.num_tokens,
            sizes.token_dim,
            depth=sizes.prior_depth,
            head_dim=sizes.prior_head_dim,
            heads=sizes.prior_heads,
            timesteps=sizes.prior_timesteps,
        )
    return MindEye2(
        FunctionalAlignment(sizes.voxel_counts, sizes.hidden_dim),
        Backbone(sizes.hidden_dim, sizes.num_tokens, sizes.token_dim, num_blocks=sizes.num_blocks),
        LowLevel(sizes.hidden_dim) if sizes.low_level else None,
        prior,
    )
