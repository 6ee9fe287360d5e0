"""The published SDXL unCLIP checkpoint: UNet and VAE in sgm's format (MindEye2, spec sections 7.3 and 7.4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.solvers import training_sigmas
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import PublishedOrCorrected
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.sgm_names import unet_to_sgm, vae_to_sgm

UNET, VAE, SIGMAS = "model.diffusion_model.", "first_stage_model.", "denoiser.sigmas"
#: The CLIP tower that made the tokens in training; the target embedder has it in a file of its own.
EMBEDDER = "conditioner.embedders."


#: The entry of a checkpoint that holds the state dict.
STATE_KEY = "state_dict"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the models of a checkpoint: arguments of `build_unet`, `build_vae` and `UnCLIPModel`."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    output: PublishedOrCorrected = "published"


def read(path: Path) -> dict[str, Tensor]:
    """The published state dict of a checkpoint file.

    Raises:
        UserError: see `read_state`.
    """
    return read_state(path, key=STATE_KEY)


def sizes(
    state: Mapping[str, Tensor],
    path: Path,
    *,
    head_dim: int = 64,
    image_size: int = 768,
    output: PublishedOrCorrected = "published",
) -> Sizes:
    """Every size, read off the shapes, but for what they do not tell.

    Args:
        state: the published state dict.
        path: its file, for the words of an error.
        head_dim: width of an attention head.
        image_size: side in pixels of the images that are made.
        output: see `UnCLIPModel`.

    Raises:
        UserError: when a weight that every such unCLIP has is missing.
    """
    for key in (f"{UNET}input_blocks.0.0.weight", f"{UNET}label_emb.0.0.weight", f"{VAE}encoder.conv_in.weight"):
        if key not in state:
            raise UserError(f"{path} is no unCLIP checkpoint", got=f"keys like {sorted(state)[0]}", expected=key)
    vae = vae_sizes(state) | {"image_size": image_size}
    latent_size = image_size // 2 ** (len(vae["channels"]) - 1)
    return Sizes(unet_sizes(state, head_dim) | {"latent_size": latent_size}, vae, output)


def unet_sizes(state: Mapping[str, Tensor], head_dim: int) -> dict[str, Any]:
    """Arguments of `build_unet`, but for the size of the latents."""
    first = state[f"{UNET}input_blocks.0.0.weight"]
    blocks = _count(state, rf"{UNET}input_blocks\.(\d+)\..*")
    channels, depths, layers = [first.shape[0]], [0], [0]
    for block in range(1, blocks):
        if f"{UNET}input_blocks.{block}.0.op.weight" in state:  # a level ends
            channels.append(channels[-1])
            depths.append(0)
            layers.append(0)
            continue
        channels[-1] = state[f"{UNET}input_blocks.{block}.0.out_layers.3.weight"].shape[0]
        depths[-1] = _count(state, rf"{UNET}input_blocks\.{block}\.1\.transformer_blocks\.(\d+)\..*")
        layers[-1] += 1
    context = next(value for key, value in state.items() if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))
    return {
        "channels": channels,
        "transformer_depth": depths,
        "head_dim": head_dim,
        "token_dim": context.shape[1],
        "size_dim": state[f"{UNET}label_emb.0.0.weight"].shape[1],
        "latent_channels": first.shape[1],
        "layers_per_block": layers[0],
    }


def vae_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `build_vae`, for images of the published size."""
    levels = _count(state, rf"{VAE}encoder\.down\.(\d+)\..*")
    return {
        "channels": [state[f"{VAE}encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)],
        "latent_channels": state[f"{VAE}post_quant_conv.weight"].shape[0],
        "layers_per_block": _count(state, rf"{VAE}encoder\.down\.0\.block\.(\d+)\..*"),
        "image_size": 768,
        "scaling_factor": 0.13025,
    }


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    numbers = [int(match[1]) for key in state if (match := re.fullmatch(pattern, key))]
    return max(numbers, default=-1) + 1


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict.

    Raises:
        UserError: for a key that belongs to no part, or another noise schedule.
    """
    sizes(state, path)
    for key in state:
        if not key.startswith((UNET, VAE, EMBEDDER)) and key != SIGMAS:
            raise UserError(f"{path} is no unCLIP checkpoint", got=key, expected=f"keys of {UNET}*, {VAE}*")
    if SIGMAS in state and not torch.allclose(state[SIGMAS].double(), training_sigmas(), rtol=1e-4):
        raise UserError(
            f"{path} was trained with another noise schedule", got=f"{SIGMAS}", expected="0.0292 to 14.6146"
        )
    return unet_and_vae(state, path)


def unet_and_vae(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of `unet.*` and `vae.*` in diffusers' names, from sgm's.

    Raises:
        UserError: for a weight of either that has no place.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = {key: value for key, value in state.items() if key.startswith(UNET)}
    vae = {key: value for key, value in state.items() if key.startswith(VAE)}
    config = {"layers_per_block": unet_sizes(state, 1)["layers_per_block"], "class_embed_type": "projection"}
    own = {f"unet.{key}": value for key, value in convert_ldm_unet_checkpoint(unet, config).items()}
    own |= {f"vae.{key}": value for key, value in vae_to_own(vae).items()}
    if len(own) != len(unet) + len(vae):  # the library's conversion leaves out what it does not know
        raise UserError(f"{path} has weights without a place", got=len(unet) + len(vae), expected=len(own))
    return own


def vae_to_own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the VAE in diffusers' names, from sgm's with their prefix."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = vae_sizes(state)["channels"]
    return convert_ldm_vae_checkpoint(dict(state), {"down_block_types": levels, "up_block_types": levels})


def to_published(model: UnCLIPModel) -> dict[str, Tensor]:
    """The published state dict of a model: UNet, VAE and noise schedule; the CLIP tower has a file of its own.

    Raises:
        UserError: for a model that the published code has no place for.
    """
    other = {
        "packing": model.packing > 1,
        "null_tokens": model.unconditional != "random",
        "token_positions": model.token_positions is not None,
        "no vector of sizes": not model.uses_sizes,
    }
    if any(other.values()):
        seen = ", ".join(name for name, is_so in other.items() if is_so)
        raise UserError("the published unCLIP is another", got=seen, expected="an unCLIP of SDXL's kind")
    unet, vae = model.unet.config, model.vae.config
    names = {
        UNET: unet_to_sgm(model.unet.state_dict(), len(unet["block_out_channels"]), unet["layers_per_block"]),
        VAE: vae_to_sgm(model.vae.state_dict(), len(vae["block_out_channels"]), vae["layers_per_block"]),
    }
    weights = {f"{prefix}{key}": value for prefix, part in names.items() for key, value in part.items()}
    return weights | {SIGMAS: training_sigmas().float()}


def build(sizes: Sizes) -> UnCLIPModel:
    """A model of these sizes, on the current default device."""
    size = (sizes.vae["image_size"],) * 2
    return UnCLIPModel(build_unet(**sizes.unet), build_vae(**sizes.vae), image_size=size, output=sizes.output)
