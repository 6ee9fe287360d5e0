"""SDXL base, or a fine-tuned descendant of it, in sgm's single-file format (MindEye2, spec section 9).

Legend: E width of a text tower.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.refiner import Refiner
from mindeye_pl.nn.diffusion.sdxl_text import SDXLText, text_tower
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming
from mindeye_pl.weights.formats.unclip import SIGMAS, UNET, VAE, unet_and_vae, unet_sizes, vae_sizes

CLIP_L, BIGG = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."

#: Constants that the towers compute for themselves, and CLIP's temperature, which only its training uses.
_UNUSED = {f"{CLIP_L}embeddings.position_ids", f"{BIGG}logit_scale", SIGMAS}

#: The names that transformers gives CLIP's text tower, to those of open_clip.
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
    }
)
_QUERY_KEY_VALUE = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the models of a checkpoint: arguments of `build_unet`, `build_vae` and `text_tower` twice."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    clip_l: dict[str, Any]
    bigg: dict[str, Any]
    image_size: int


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path, key="state_dict")


def sizes(
    state: Mapping[str, Tensor], path: Path, *, head_dim: int = 64, text_head_dim: int = 64, image_size: int = 768
) -> Sizes:
    """Every size, read off the shapes; they do not tell the width of an attention head.

    Raises:
        UserError: when a weight that every SDXL has is missing.
    """
    needed = (f"{UNET}input_blocks.0.0.weight", f"{VAE}encoder.conv_in.weight", f"{BIGG}text_projection")
    for key in (*needed, f"{CLIP_L}embeddings.token_embedding.weight"):
        if key not in state:
            raise UserError(f"{path} is no SDXL base", got=f"keys like {sorted(state)[0]}", expected=key)
    vae = vae_sizes(state) | {"image_size": image_size}
    latent_size = image_size // 2 ** (len(vae["channels"]) - 1)
    words = state[f"{CLIP_L}embeddings.token_embedding.weight"]
    bigg_words = state[f"{BIGG}token_embedding.weight"]
    return Sizes(
        unet_sizes(state, head_dim) | {"latent_size": latent_size},
        vae,
        {
            "width": words.shape[1],
            "layers": _layers(state, CLIP_L, "encoder.layers"),
            "heads": words.shape[1] // text_head_dim,
            "output_dim": None,
            "vocabulary": words.shape[0],
            "quick": True,
        },
        {
            "width": bigg_words.shape[1],
            "layers": _layers(state, BIGG, "transformer.resblocks"),
            "heads": bigg_words.shape[1] // text_head_dim,
            "output_dim": state[f"{BIGG}text_projection"].shape[1],
            "vocabulary": bigg_words.shape[0],
        },
        image_size,
    )


def _layers(state: Mapping[str, Tensor], prefix: str, blocks: str) -> int:
    pattern = re.compile(rf"{re.escape(prefix + blocks)}\.(\d+)\.")
    return 1 + max(int(match[1]) for key in state if (match := pattern.match(key)))


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part.
    """
    sizes(state, path)
    own = unet_and_vae(state, path)
    clip_l = {key.removeprefix(CLIP_L): value for key, value in state.items() if key.startswith(CLIP_L)}
    own |= {f"text.clip_l.{key}": value for key, value in _clip_l(clip_l, path).items()}
    for key, value in state.items():
        if key.startswith(BIGG) and key not in _UNUSED:
            own[f"text.bigg.{key.removeprefix(BIGG)}"] = value
        elif not key.startswith((UNET, VAE, CLIP_L)) and key not in _UNUSED:
            raise UserError(f"{path} is no SDXL base", got=key, expected=f"keys of {UNET}*, {VAE}*, {CLIP_L}*, {BIGG}*")
    return own


def _clip_l(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """open_clip keeps a block's queries, keys and values in one matrix."""
    own = {}
    for key, value in state.items():
        if match := _QUERY_KEY_VALUE.fullmatch(key):
            parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            own[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(parts)
        elif ".k_proj." in key or ".v_proj." in key or f"{CLIP_L}{key}" in _UNUSED:
            continue
        elif (renamed := _CLIP_L_NAMES.to_own(key)) is None:
            raise UserError(f"{path} is no SDXL base", got=f"{CLIP_L}{key}", expected="CLIP's text tower")
        else:
            own[renamed] = value
    return own


def build(sizes: Sizes) -> Refiner:
    """A model of these sizes, on the current default device."""
    text = SDXLText(text_tower(**sizes.clip_l), text_tower(**sizes.bigg))
    size = (sizes.image_size, sizes.image_size)
    return Refiner(build_unet(**sizes.unet), build_vae(**sizes.vae), text, image_size=size)
