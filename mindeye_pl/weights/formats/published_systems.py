"""Common parts of the published checkpoints of MindEye2 and MindEye1: the prior's key names, and its sizes.

Both have the same prior network, under `diffusion_prior.` in the one and under no name in the other.

Legend: S tokens, D token width.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.nn.brain.diffusion_prior import DiffusionPriorModel
from mindeye_pl.nn.brain.prior_network import PriorNetwork
from mindeye_pl.weights.formats.published_format import PublishedFormat, count, numbered

#: The one table of rotary frequencies, which the published files repeat for every layer.
ROTARY = "prior.network.network.transformer.rotary.frequencies"

#: Prefixes that every prior has.
_PRIOR = {
    "noise_scheduler.": "prior.network.schedule.",
    "net.learned_query": "prior.network.network.position_query",
    "net.null_image_embed": "prior.network.network.null_noisy_tokens",
    **{
        f"net.causal_transformer.{theirs}": f"prior.network.network.transformer.{ours}"
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
            "layers.{i}.1.3.g": "feed_forward.{i}.inner_norm.gain",
            "layers.{i}.1.5.": "feed_forward.{i}.contract.",
        }.items()
    },
    "net.to_time_embeds.0.weight": "prior.network.network.time_embedding.weight",
    "net.to_time_embeds.0.1.net.0.0.": "prior.network.network.time_embedding.network.0.",
    "net.to_time_embeds.0.1.net.1.0.": "prior.network.network.time_embedding.network.2.",
    "net.to_time_embeds.0.1.net.2.": "prior.network.network.time_embedding.network.4.",
}

#: What the layouts of `PriorNetwork` call their learned tokens.
_LAYOUTS = {
    "parallel": {"net.null_brain_embeds": "prior.network.network.null_brain_tokens"},
    "causal": {
        "net.null_text_embeds": "prior.network.network.null_brain_tokens",
        "net.null_text_encodings": "prior.network.network.padding_tokens",
    },
}


@dataclass(frozen=True)
class PriorSizes:
    """Sizes of a prior, read from a checkpoint.

    Attributes:
        depth: layers.
        head_dim: width of its attention heads.
        heads: their number.
        timesteps: of its schedule.
        padding: tokens of its layout's padding.
        time_table: times with a learned embedding each.
        inner_norm: whether its feed-forward layers have one.
    """

    depth: int
    head_dim: int
    heads: int
    timesteps: int
    padding: int
    time_table: int
    inner_norm: bool


class PublishedSystem(PublishedFormat):
    """The checkpoints of one system: its parts' key names and its prior.

    Args:
        name: in the words of errors.
        parts: published prefix to the project's own, see `Renaming`, of everything but the prior.
        prior_prefix: of the prior's keys.
        prior_options: settings of the prior by name, where they differ from MindEye2's: `condition`, `layout`,
            `target_scale` and `renormalise`.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, str],
        *,
        prior_prefix: str = "",
        prior_options: Mapping[str, str] | None = None,
    ):
        options: dict[str, Any] = {
            "condition": "sequence",
            "target_scale": "one",
            "renormalise": "none",
            "layout": "parallel",
        }
        options |= prior_options or {}
        prior = _PRIOR | _LAYOUTS[options["layout"]]
        super().__init__(name, {**parts, **{f"{prior_prefix}{theirs}": ours for theirs, ours in prior.items()}})
        self._prior_options = options
        self._prefix = prior_prefix
        self._rotary = f"{prior_prefix}net.causal_transformer.layers.{{i}}.0.rotary_emb.freqs"

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        """The project's state dict, with the one rotary table once.

        Raises:
            UserError: for a key that belongs to no part of the system, or rotary tables that differ.
        """
        rotary = numbered(self._rotary)
        tables = {key: value for key, value in state.items() if rotary.fullmatch(key)}
        own = super().to_own({key: value for key, value in state.items() if key not in tables}, path)
        for key, table in tables.items():
            if not torch.equal(table, own.setdefault(ROTARY, table)):
                raise self._refusal(
                    path, seen=f"another {key} than in a layer before", wanted="one table for all layers"
                )
        return own

    def published_state(self, model: MindEye, *, without: str | None = None) -> dict[str, Tensor]:
        """The published state dict of a model.

        Args:
            model: of the system.
            without: prefix of the weights that have a file of their own.

        Raises:
            UserError: for a prior whose weights mean something else to the published code.
        """
        own = {k: value for k, value in model.state_dict().items() if without is None or not k.startswith(without)}
        if (prior := model.prior) is None:
            return self.to_published(own)
        denoiser = prior.network.network
        found = {
            "network.denoiser.condition": denoiser.condition,
            "network.target_scale": prior.network.target_scale,
            "renormalise": prior.renormalise,
            "network.denoiser.layout": denoiser.layout,
        }
        for key, value in found.items():
            if value != (expected := self._prior_options[key.rpartition(".")[-1]]):
                raise UserError(
                    f"the published {self.name} computes another prior",
                    got=f"prior.{key}={value}",
                    expected=f"prior.{key}={expected}",
                )
        rotary, depth = own.pop(ROTARY), len(denoiser.transformer.attention)
        return self.to_published(own) | {self._rotary.format(i=layer): rotary for layer in range(depth)}

    def prior_sizes(self, state: Mapping[str, Tensor], path: Path) -> PriorSizes | None:
        """The prior's sizes, None where the checkpoint has no prior.

        Raises:
            UserError: when it has a part of one.
        """
        shape, layers = self.shapes(state, path), f"{self._prefix}net.causal_transformer.layers."
        depth = count(state, f"{layers}{{i}}.0.norm.g")
        if not depth:
            return None
        head_dim = shape(f"{layers}0.0.null_kv")[1]
        padding, time_table = (self._prefix + key for key in ("net.null_text_encodings", "net.to_time_embeds.0.weight"))
        return PriorSizes(
            depth=depth,
            head_dim=head_dim,
            heads=shape(f"{layers}0.0.to_q.weight")[0] // head_dim,
            timesteps=shape(f"{self._prefix}noise_scheduler.betas", 1)[0],
            padding=shape(padding, 3)[1] if padding in state else 0,
            time_table=shape(time_table)[0] if time_table in state else 0,
            inner_norm=f"{layers}0.1.3.g" in state,
        )

    def build_prior(self, num_tokens: int, token_dim: int, sizes: PriorSizes | None) -> DiffusionPrior | None:
        """The system's prior for S tokens of width D, None where there are no sizes of one."""
        if sizes is None:
            return None
        options, arguments = self._prior_options, asdict(sizes)
        timesteps = arguments.pop("timesteps")
        denoiser = PriorNetwork(
            num_tokens, token_dim, condition=options["condition"], layout=options["layout"], **arguments
        )
        model = DiffusionPriorModel(denoiser, timesteps=timesteps, target_scale=options["target_scale"])
        return DiffusionPrior(model, renormalise=options["renormalise"])
