"""The published SDXL unCLIP checkpoint: UNet and VAE in sgm's format (MindEye2, spec sections 7.3 and 7.4)."""

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_unet, build_vae
from mindeye_pl.nn.diffusion.solvers import training_sigmas
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import PublishedOrCorrected
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import Renaming, count

UNET, VAE, SIGMAS = "model.diffusion_model.", "first_stage_model.", "denoiser.sigmas"
#: CLIP tower of the training's tokens; the target embedder has it in a file of its own.
EMBEDDER = "conditioner.embedders."

#: Keys of every UNet and VAE.
NEEDED = (f"{UNET}input_blocks.0.0.weight", f"{UNET}label_emb.0.0.weight", f"{VAE}encoder.conv_in.weight")

#: Parts of a residual block, sgm's name to diffusers'.
_UNET_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_BLOCK = {part: part for part in ("norm1", "norm2", "conv1", "conv2")} | {"nin_shortcut": "conv_shortcut"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

#: The VAE's attention: 1 x 1 convolutions in sgm, matrices in diffusers.
_VAE_MATRIX = re.compile(r"(en|de)coder\.mid\.attn_1\.(q|k|v|proj_out)\.weight")


class _UnCLIPFormat(PublishedFormat):
    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        self.require(state, path, *NEEDED)
        for key in state:
            if not key.startswith((UNET, VAE, EMBEDDER)) and key != SIGMAS:
                raise self.refusal(path, got=key, expected=f"keys of {UNET}*, {VAE}*")
        sigmas = state.get(SIGMAS, training_sigmas())
        if not torch.allclose(sigmas.double(), training_sigmas(), rtol=max(1e-4, torch.finfo(sigmas.dtype).eps)):
            raise UserError(f"{path} was trained with another noise schedule", got=SIGMAS, expected="0.0292 to 14.6146")
        return unet_and_vae(state, path)

    def to_published(self, model: UnCLIPModel) -> dict[str, Tensor]:
        """Return UNet, VAE and noise schedule; the CLIP tower has a file of its own."""
        other = {
            "packing": model.packing > 1,
            "null_tokens": model.unconditional != "random",
            "token_positions": model.token_positions is not None,
            "no vector of sizes": not model.uses_sizes,
        }
        if any(other.values()):
            got = ", ".join(name for name, is_so in other.items() if is_so)
            raise UserError("the published format cannot hold this unCLIP", got=got, expected="SDXL's architecture")
        unet, vae = model.unet.config, model.vae.config
        names = {
            UNET: unet_to_sgm(model.unet.state_dict(), len(unet["block_out_channels"]), unet["layers_per_block"]),
            VAE: vae_to_sgm(model.vae.state_dict(), len(vae["block_out_channels"]), vae["layers_per_block"]),
        }
        weights = {f"{prefix}{key}": value for prefix, part in names.items() for key, value in part.items()}
        return weights | {SIGMAS: training_sigmas().float()}

    def build(
        self,
        state: Mapping[str, Tensor],
        path: Path,
        *,
        head_dim: int = 64,
        image_size: int = 768,
        output: PublishedOrCorrected = "published",
    ) -> UnCLIPModel:
        """Build the model: `head_dim` of its attention, `image_size` in pixels, `output` as in `UnCLIPModel`."""
        unet, vae = build_unet(**unet_sizes(state, head_dim, image_size)), build_vae(**vae_sizes(state, image_size))
        return UnCLIPModel(unet, vae, image_size=(image_size, image_size), output=output)


def unet_sizes(state: Mapping[str, Tensor], head_dim: int, image_size: int) -> dict[str, Any]:
    """Return the arguments of `build_unet`, the latents those of the checkpoint's VAE for images of this size."""
    first = state[f"{UNET}input_blocks.0.0.weight"]
    channels, depths, layers = [first.shape[0]], [0], [0]
    for block in range(1, count(state, f"{UNET}input_blocks.{{i}}.")):
        if f"{UNET}input_blocks.{block}.0.op.weight" in state:  # a level ends
            channels.append(channels[-1])
            depths.append(0)
            layers.append(0)
            continue
        channels[-1] = state[f"{UNET}input_blocks.{block}.0.out_layers.3.weight"].shape[0]
        depths[-1] = count(state, f"{UNET}input_blocks.{block}.1.transformer_blocks.{{i}}.")
        layers[-1] += 1
    context = next(value for key, value in state.items() if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))
    return {
        "channels": channels,
        "transformer_depth": depths,
        "head_dim": head_dim,
        "token_dim": context.shape[1],
        "size_dim": state[f"{UNET}label_emb.0.0.weight"].shape[1],
        "latent_channels": first.shape[1],
        "latent_size": image_size // 2 ** (count(state, f"{VAE}encoder.down.{{i}}.") - 1),
        "layers_per_block": layers[0],
    }


def vae_sizes(state: Mapping[str, Tensor], image_size: int = 768) -> dict[str, Any]:
    """Return the arguments of `build_vae`."""
    levels = count(state, f"{VAE}encoder.down.{{i}}.")
    return {
        "channels": [state[f"{VAE}encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)],
        "latent_channels": state[f"{VAE}post_quant_conv.weight"].shape[0],
        "layers_per_block": count(state, f"{VAE}encoder.down.0.block.{{i}}."),
        "image_size": image_size,
        "scaling_factor": 0.13025,
    }


def unet_and_vae(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename the weights of UNet and VAE from sgm's names to diffusers', below `unet.` and `vae.`.

    The UNet's stay in the precision of the file, the VAE's become float32.

    Raises a UserError for a weight that diffusers does not have.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = {key: value for key, value in state.items() if key.startswith(UNET)}
    vae = {key: value for key, value in state.items() if key.startswith(VAE)}
    layers = unet_sizes(state, 1, 1)["layers_per_block"]
    config = {"layers_per_block": layers, "class_embed_type": "projection"}
    own = {f"unet.{key}": value for key, value in convert_ldm_unet_checkpoint(unet, config).items()}
    own |= {f"vae.{key}": value.float() for key, value in vae_to_own(vae).items()}  # half precision overflows in it
    if len(own) != len(unet) + len(vae):  # the library's conversion drops unknown weights
        raise UserError(f"{path} has unknown weights", got=len(unet) + len(vae), expected=len(own))
    return own


def vae_to_own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the VAE's weights from sgm's names with their prefix to diffusers'."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = vae_sizes(state)["channels"]
    return convert_ldm_vae_checkpoint(dict(state), {"down_block_types": levels, "up_block_types": levels})


def unet_to_sgm(state: Mapping[str, Tensor], levels: int, layers_per_block: int) -> dict[str, Tensor]:
    """Return the weights of a diffusers UNet with a class embedding under sgm's names.

    The UNet has `layers_per_block` residual blocks in each level on the way down, one more on the way up.
    """
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "class_embedding.linear_1",
        "label_emb.0.2": "class_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.1": "mid_block.attentions.0",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    blocks = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    per_level = layers_per_block + 1
    for level, layer in product(range(levels), range(per_level)):
        down, up = f"input_blocks.{1 + level * per_level + layer}", f"output_blocks.{level * per_level + layer}"
        blocks[f"{up}.0"] = f"up_blocks.{level}.resnets.{layer}"
        names[f"{up}.1"] = f"up_blocks.{level}.attentions.{layer}"
        if layer < layers_per_block:
            blocks[f"{down}.0"] = f"down_blocks.{level}.resnets.{layer}"
            names[f"{down}.1"] = f"down_blocks.{level}.attentions.{layer}"
            continue
        names[f"{down}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        attends = f"up_blocks.{level}.attentions.{layer}.norm.weight" in state  # then the upsampler is the third part
        names[f"{up}.{2 if attends else 1}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return _renamed(state, names | _inside(blocks, _UNET_BLOCK))


def vae_to_sgm(state: Mapping[str, Tensor], levels: int, layers_per_block: int) -> dict[str, Tensor]:
    """Return the weights of a diffusers VAE under sgm's names; parameters as `unet_to_sgm`."""
    names = {name: name for name in ("quant_conv", "post_quant_conv")}
    blocks: dict[str, str] = {}
    attentions: dict[str, str] = {}
    for part in ("encoder", "decoder"):
        names |= {f"{part}.{name}": f"{part}.{name}" for name in ("conv_in", "conv_out")}
        names[f"{part}.norm_out"] = f"{part}.conv_norm_out"
        attentions[f"{part}.mid.attn_1"] = f"{part}.mid_block.attentions.0"
        blocks |= {f"{part}.mid.block_{i + 1}": f"{part}.mid_block.resnets.{i}" for i in range(2)}
    for level, layer in product(range(levels), range(layers_per_block + 1)):
        up = f"decoder.up.{levels - 1 - level}"  # sgm counts the decoder's levels from the finest one too
        blocks[f"encoder.down.{level}.block.{layer}"] = f"encoder.down_blocks.{level}.resnets.{layer}"
        blocks[f"{up}.block.{layer}"] = f"decoder.up_blocks.{level}.resnets.{layer}"
        names[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
        names[f"{up}.upsample.conv"] = f"decoder.up_blocks.{level}.upsamplers.0.conv"
    names |= _inside(blocks, _VAE_BLOCK) | _inside(attentions, _VAE_ATTENTION)
    return {
        key: value[:, :, None, None] if _VAE_MATRIX.fullmatch(key) else value
        for key, value in _renamed(state, names).items()
    }


def _inside(modules: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the parts of each module."""
    return {f"{theirs}.{a}": f"{ours}.{b}" for theirs, ours in modules.items() for a, b in parts.items()}


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return Renaming({f"{theirs}.": f"{ours}." for theirs, ours in names.items()}).to_published(state)


FORMAT = _UnCLIPFormat("unCLIP", {}, state_key="state_dict")
