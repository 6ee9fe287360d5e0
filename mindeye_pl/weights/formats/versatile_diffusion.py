"""Versatile Diffusion's image flow as diffusers keeps it: the folder of its pipeline (MindEye1, spec section 8).

Two of the folder's models draw images of image tokens: `image_unet`, a plain UNet with tokens of width 768, and
`vae`, Stable Diffusion's. The pipeline that MindEye1 took mixes the image flow with a text flow; at its mix ratio of 0
that is `image_unet` alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.renaming import Renaming
from mindeye_pl.weights.formats.vae_names import older_attention_names

#: The folder of each model, and its class.
MODELS = {"image_unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
CONFIG, WEIGHTS = "config.json", ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

RENAMING = Renaming(
    {
        "image_unet.": "unet.",
        "vae.": "vae.",
        # The released VAE may have the attention's older names.
        **older_attention_names("vae.encoder.", "vae.encoder."),
        **older_attention_names("vae.decoder.", "vae.decoder."),
    }
)


@dataclass(frozen=True)
class Sizes:
    """The configurations of both models, as diffusers wrote them."""

    unet: dict[str, Any]
    vae: dict[str, Any]


def read(path: Path) -> dict[str, Tensor]:
    """The weights of both models of a folder, each key behind its model's name.

    Raises:
        UserError: when a file is missing; otherwise see `read_state`.
    """
    return _states({name: _weights(path / name) for name in MODELS})


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder} holds no weights", got="a folder" if folder.is_dir() else "no folder", expected=" or ".join(WEIGHTS)
    )


def _states(files: Mapping[str, Path]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, file in files.items() for key, value in read_state(file).items()}


def sizes(state: Mapping[str, Tensor], path: Path, *, folders: Mapping[str, Path] | None = None) -> Sizes:
    """The configurations that lie beside the weights.

    Args:
        state: not looked at: shapes tell less than the configurations.
        path: the pipeline's folder.
        folders: of each model, where they are others than the pipeline's.

    Raises:
        UserError: when a configuration is missing, damaged or another model's.
    """
    folders = folders or {name: path / name for name in MODELS}
    unet, vae = (_config(folders[name] / CONFIG, class_name) for name, class_name in MODELS.items())
    refused = {
        "dual_cross_attention": bool(unet.get("dual_cross_attention")),
        "class_embed_type": unet.get("class_embed_type") is not None,
        "sample_size": not isinstance(unet.get("sample_size"), int),
    }
    for option, is_so in refused.items():
        if is_so:
            file, seen = folders["image_unet"] / CONFIG, f"{option}: {unet.get(option)}"
            raise UserError(f"{file} is not the image flow alone", got=seen, expected="image_unet as it was released")
    return Sizes(unet, vae)


def _config(file: Path, class_name: str) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file} does not exist", expected=f"the configuration of a {class_name}")
    try:
        config = json.loads(file.read_text())
        seen = config["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no configuration of a model", got=f"{type(error).__name__}: {error}") from error
    if seen != class_name:
        raise UserError(f"{file} is another model's", got=seen, expected=class_name)
    return config


def to_own(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The project's state dict, in float32."""
    return {RENAMING.to_own(key) or key: value.float() for key, value in state.items()}


def build(sizes: Sizes) -> UnCLIPModel:
    """A model of these sizes, on the current default device; its condition can be taken away by tokens of zeros.

    Raises:
        UserError: if diffusers knows no such model.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    try:
        unet, vae = UNet2DConditionModel.from_config(sizes.unet), AutoencoderKL.from_config(sizes.vae)
    except (TypeError, ValueError) as error:
        raise UserError("a configuration of Versatile Diffusion is none that diffusers knows", got=error) from error
    side = sizes.unet["sample_size"] * 2 ** (len(vae.config["block_out_channels"]) - 1)
    return UnCLIPModel(unet, vae, image_size=(side, side), null_tokens="zeros", output="corrected")
