"""Base of the published checkpoints of MindEye2 and MindEye1, which have the same prior network.

Legend: S tokens, D token width.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.models.mindeye import MindEye
from mindeye_pl.models.parts.prior import DiffusionPrior
from mindeye_pl.nn.brain.diffusion_prior import CosineSchedule, DiffusionPriorModel
from mindeye_pl.nn.brain.prior_network import PriorNetwork
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import count, numbered

#: The table of rotary frequencies, which the published files repeat for every layer.
ROTARY = "prior.network.network.transformer.rotary.frequencies"
#: Prefix of the tables of the noise schedule.
_SCHEDULE = "prior.network.schedule."

#: Prefixes that every prior has.
_PRIOR = {
    "noise_scheduler.": _SCHEDULE,
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

#: Learned tokens by the layout of `PriorNetwork`.
_LAYOUTS = {
    "parallel": {"net.null_brain_embeds": "prior.network.network.null_brain_tokens"},
    "causal": {
        "net.null_text_embeds": "prior.network.network.null_brain_tokens",
        "net.null_text_encodings": "prior.network.network.padding_tokens",
    },
}


#: Settings of MindEye2's prior.
_PRIOR_OPTIONS = {"condition": "sequence", "target_scale": "one", "renormalise": "none", "layout": "parallel"}


class PublishedSystem(PublishedFormat):
    """Checkpoints of one system.

    `parts` are the prefixes of everything but the prior, whose keys begin with `prior_prefix`; `prior_options` are its
    settings that differ from `_PRIOR_OPTIONS`.
    """

    def __init__(self, name: str, parts: Mapping[str, str], *, prior_prefix: str = "", **prior_options: Any):
        self._options: dict[str, Any] = _PRIOR_OPTIONS | prior_options
        prior = _PRIOR | _LAYOUTS[self._options["layout"]]
        super().__init__(name, {**parts, **{f"{prior_prefix}{theirs}": ours for theirs, ours in prior.items()}})
        self._prefix = prior_prefix
        self._rotary = f"{prior_prefix}net.causal_transformer.layers.{{i}}.0.rotary_emb.freqs"

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return the project's state dict in float32, with one rotary table.

        A noise schedule in half precision is computed anew: its last value, 2e-7, has one digit there. Raises a
        UserError if the layers' rotary tables differ.
        """
        rotary = re.compile(numbered(self._rotary))
        tables = {key: value for key, value in state.items() if rotary.fullmatch(key)}
        own = super().to_own({key: value for key, value in state.items() if key not in tables}, path)
        for key, table in tables.items():
            if not torch.equal(table, own.setdefault(ROTARY, table)):
                raise self.refusal(path, got=f"{key} differs from earlier layers", expected="one table for all layers")
        betas = own.get(f"{_SCHEDULE}betas")
        own = {key: value.float() if value.is_floating_point() else value for key, value in own.items()}
        if betas is not None and betas.dtype in (torch.float16, torch.bfloat16) and betas.ndim == 1 and len(betas):
            own |= {f"{_SCHEDULE}{name}": value for name, value in CosineSchedule(len(betas)).state_dict().items()}
        return own

    def published_state(self, model: MindEye, *, without: str | None = None) -> dict[str, Tensor]:
        """Return the published state dict of a model, without weights of a prefix that have a file of their own.

        Raises a UserError for a prior that the published code would compute differently.
        """
        own = {k: value for k, value in model.state_dict().items() if without is None or not k.startswith(without)}
        if (prior := model.prior) is None:
            return self.renaming.to_published(own)
        denoiser = prior.network.network
        found = {
            "network.denoiser.condition": denoiser.condition,
            "network.target_scale": prior.network.target_scale,
            "renormalise": prior.renormalise,
            "network.denoiser.layout": denoiser.layout,
        }
        for key, value in found.items():
            if value != (expected := self._options[key.rpartition(".")[-1]]):
                what, prior_key = f"the published {self.name} computes another prior", f"prior.{key}"
                raise UserError(what, got=f"{prior_key}={value}", expected=f"{prior_key}={expected}")
        rotary, depth = own.pop(ROTARY), len(denoiser.transformer.attention)
        published = self.renaming.to_published(own)
        return published | {self._rotary.format(i=layer): rotary for layer in range(depth)}

    def build_prior(
        self, num_tokens: int, token_dim: int, state: Mapping[str, Tensor], path: Path
    ) -> DiffusionPrior | None:
        """Build the checkpoint's prior for S tokens of width D, if any; raises a UserError if part of it is missing."""
        shape, layers = self.shapes(state, path), f"{self._prefix}net.causal_transformer.layers."
        depth = count(state, f"{layers}{{i}}.0.norm.g")
        if not depth:
            return None
        head_dim = shape(f"{layers}0.0.null_kv")[1]
        heads = shape(f"{layers}0.0.to_q.weight")[0] // head_dim
        timesteps = shape(f"{self._prefix}noise_scheduler.betas", 1)[0]
        padding, time_table = (self._prefix + key for key in ("net.null_text_encodings", "net.to_time_embeds.0.weight"))
        denoiser = PriorNetwork(
            num_tokens,
            token_dim,
            depth=depth,
            head_dim=head_dim,
            heads=heads,
            padding=shape(padding, 3)[1] if padding in state else 0,
            time_table=shape(time_table)[0] if time_table in state else 0,
            inner_norm=f"{layers}0.1.3.g" in state,
            condition=self._options["condition"],
            layout=self._options["layout"],
        )
        model = DiffusionPriorModel(denoiser, timesteps=timesteps, target_scale=self._options["target_scale"])
        return DiffusionPrior(model, renormalise=self._options["renormalise"])
