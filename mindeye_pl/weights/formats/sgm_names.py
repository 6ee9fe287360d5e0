"""Renaming of SDXL's UNet and VAE from diffusers' names to sgm's (MindEye2, spec section 7.4)."""

import re
from collections.abc import Mapping
from itertools import product

from torch import Tensor

from mindeye_pl.weights.formats.renaming import Renaming

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
