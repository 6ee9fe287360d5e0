"""Conversion of SDXL base to the untrained unCLIP that is fine-tuned (MindEye2, spec section 7.2).

Legend: D token width, E length of the size vector.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.builders import build_vae
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.unclip import UNET, VAE, vae_sizes, vae_to_own
from mindeye_pl.weights.registry import build_filled, published_model

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: Cross-attention's keys and values, 70 of each in SDXL.
KEY_VALUE = re.compile(rf"{re.escape(UNET)}.*\.attn2\.to_[kv]\.weight")
LABEL = f"{UNET}label_emb.0.0.weight"


def unclip_start(
    sdxl: Mapping[str, Tensor], path: Path, *, token_dim: int = 1664, size_dim: int = 1024
) -> dict[str, Tensor]:
    """Return the published state dict that fine-tuning starts from, SDXL base without its text towers.

    Keys and values have another token width, so they get PyTorch's default initialisation. The first E columns of the
    vector's layer are kept, as published; in SDXL they belong to the pooled text, not to the sizes.

    Raises a UserError, with the path of the file, if it is no SDXL base.
    """
    if LABEL not in sdxl or sdxl[LABEL].shape[1] < size_dim:
        got = tuple(sdxl[LABEL].shape) if LABEL in sdxl else f"keys like {sorted(sdxl)[0]}"
        raise UserError(f"{path} is no SDXL base", got=got, expected=f"{LABEL} with {size_dim} columns or more")
    start = {key: value for key, value in sdxl.items() if key.startswith((UNET, VAE))}
    start[LABEL] = sdxl[LABEL][:, :size_dim].clone()
    for key in filter(KEY_VALUE.fullmatch, start):
        rows, device = len(start[key]), start[key].device
        start[key] = nn.Linear(token_dim, rows, bias=False, device=device).weight.detach()
    return start


def load_unclip_start(
    path: str | Path, *, token_dim: int, size_dim: int, head_dim: int = 64, image_size: int = 768
) -> UnCLIPModel:
    """Load the untrained unCLIP of `unclip_start` in float32 on the CPU; the UNet is trainable, the VAE frozen.

    New weights follow from the global random state. `head_dim` is the width of the UNet's attention heads, `image_size`
    the side of the training images in pixels. Raises a UserError if the file is missing, damaged or no SDXL base.
    """
    path = Path(path)
    start = unclip_start(read_state(path), path, token_dim=token_dim, size_dim=size_dim)
    model: UnCLIPModel = published_model("unclip", start, path, head_dim=head_dim, image_size=image_size)
    model.float()
    model.vae.requires_grad_(False)
    model.unet.train()  # without this there is no gradient checkpointing
    return model


def load_vae(path: str | Path, *, image_size: int = 768) -> "AutoencoderKL":
    """Load the VAE of a file of SDXL base for images of `image_size` pixels, in float32 on the CPU, frozen.

    Raises a UserError if the file is missing, damaged or no SDXL base.
    """
    path = Path(path)
    state = {key: value.float() for key, value in read_state(path).items() if key.startswith(VAE)}
    for key in (f"{VAE}encoder.conv_in.weight", f"{VAE}post_quant_conv.weight"):
        if key not in state:
            raise UserError(f"{path} is no SDXL base", got="a file without its VAE", expected=key)
    return build_filled(lambda: build_vae(**vae_sizes(state, image_size)), vae_to_own(state), path)
