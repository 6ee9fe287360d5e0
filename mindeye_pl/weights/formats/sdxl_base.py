"""SDXL base, or a fine-tuned descendant of it, in sgm's single-file format (MindEye2, spec section 9)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.refiner import Refiner
from mindeye_pl.nn.diffusion.sdxl_text import SDXLText, text_tower
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import Renaming, count
from mindeye_pl.weights.formats.unclip import NEEDED, SIGMAS, UNET, VAE, unet_and_vae, unet_sizes, vae_sizes

CLIP_L, BIGG = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
_WORDS, _BIGG_WORDS = f"{CLIP_L}embeddings.token_embedding.weight", f"{BIGG}token_embedding.weight"

#: Constants that the towers compute themselves, and CLIP's temperature, which only training uses.
_UNUSED = {f"{CLIP_L}embeddings.position_ids", f"{BIGG}logit_scale", SIGMAS}

#: Names of CLIP's text tower in transformers, with those in open_clip.
_CLIP_L_NAMES = Renaming(
    {
        "embeddings.token_embedding.": "token_embedding.",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.": "ln_final.",
        "encoder.layers.{i}.layer_norm1.": "transformer.resblocks.{i}.ln_1.",
        "encoder.layers.{i}.layer_norm2.": "transformer.resblocks.{i}.ln_2.",
        "encoder.layers.{i}.mlp.fc1.": "transformer.resblocks.{i}.mlp.c_fc.",
        "encoder.layers.{i}.mlp.fc2.": "transformer.resblocks.{i}.mlp.c_proj.",
        "encoder.layers.{i}.self_attn.out_proj.": "transformer.resblocks.{i}.attn.out_proj.",
        # open_clip keeps a block's queries, keys and values in one matrix, see `_clip_l`.
        "encoder.layers.{i}.self_attn.q_proj.": "transformer.resblocks.{i}.attn.in_proj_",
    }
)


class _SDXLBaseFormat(PublishedFormat):
    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        self.require(state, path, *NEEDED, f"{BIGG}text_projection", _WORDS)
        own = unet_and_vae(state, path)
        clip_l = {key.removeprefix(CLIP_L): value for key, value in state.items() if key.startswith(CLIP_L)}
        own |= {f"text.clip_l.{key}": value for key, value in self._clip_l(clip_l, path).items()}
        for key, value in state.items():
            if key.startswith(BIGG) and key not in _UNUSED:
                own[f"text.bigg.{key.removeprefix(BIGG)}"] = value
            elif not key.startswith((UNET, VAE, CLIP_L)) and key not in _UNUSED:
                raise self.refusal(path, got=key, expected=f"keys of {UNET}*, {VAE}*, {CLIP_L}*, {BIGG}*")
        # The text towers' masks are float32.
        return {key: value.float() if key.startswith("text.") else value for key, value in own.items()}

    def _clip_l(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        own = {}
        for key, value in state.items():
            if ".k_proj." in key or ".v_proj." in key or f"{CLIP_L}{key}" in _UNUSED:
                continue
            if (renamed := _CLIP_L_NAMES.to_own(key)) is None:
                raise self.refusal(path, got=f"{CLIP_L}{key}", expected="CLIP's text tower")
            joined = ".q_proj." in key
            parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"] if joined else []
            own[renamed] = torch.cat(parts) if joined else value
        return own

    def build(
        self,
        state: Mapping[str, Tensor],
        path: Path,
        *,
        head_dim: int = 64,
        text_head_dim: int = 64,
        image_size: int = 768,
    ) -> Refiner:
        """Build the model; the widths of attention heads and the `image_size` in pixels are not in the file."""

        def tower(words: str, layers: str, **sizes: Any) -> Any:
            vocabulary, width = state[words].shape
            heads = width // text_head_dim
            return text_tower(width=width, layers=count(state, layers), heads=heads, vocabulary=vocabulary, **sizes)

        clip_l = tower(_WORDS, f"{CLIP_L}encoder.layers.{{i}}.", output_dim=None, quick=True)
        pooled_dim = state[f"{BIGG}text_projection"].shape[1]
        text = SDXLText(clip_l, tower(_BIGG_WORDS, f"{BIGG}transformer.resblocks.{{i}}.", output_dim=pooled_dim))
        unet, vae = build_unet(**unet_sizes(state, head_dim, image_size)), build_vae(**vae_sizes(state, image_size))
        return Refiner(unet, vae, text, image_size=(image_size, image_size))


FORMAT = _SDXLBaseFormat("SDXL base", {}, state_key="state_dict")
