"""Versatile Diffusion's image flow in the folder of its diffusers pipeline (MindEye1, spec section 8).

Two of the folder's models generate images from image tokens: `image_unet`, a plain UNet with tokens of width 768, and
`vae`, Stable Diffusion's. MindEye1's pipeline mixes the image flow with a text flow; at its mix ratio of 0 that is
`image_unet` alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.store.json_files import read_json
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats.published_format import PublishedFormat
from mindeye_pl.weights.formats.renaming import older_attention_names

#: Class of each model by its folder.
MODELS = {"image_unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
CONFIG, WEIGHTS = "config.json", ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

_PREFIXES = {
    "image_unet.": "unet.",
    "vae.": "vae.",
    # The released VAE may have the attention's older names.
    **older_attention_names("vae.encoder.", "vae.encoder."),
    **older_attention_names("vae.decoder.", "vae.decoder."),
}


class _VersatileDiffusionFormat(PublishedFormat):
    def read(self, path: Path) -> dict[str, Tensor]:
        """Return the weights of both models of a folder, with the model's name before each key."""
        return read_models({name: _weights(path / name) for name in MODELS})

    def to_own(self, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
        return {key: value.float() for key, value in super().to_own(state, path).items()}

    def build(
        self, state: Mapping[str, Tensor], path: Path, *, folders: Mapping[str, Path] | None = None
    ) -> UnCLIPModel:
        """Build the model, whose unconditional tokens are zeros, from the configurations in the models' folders.

        The folders are by default those of the pipeline at `path`.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        folders = folders or {name: path / name for name in MODELS}
        unet_config, vae_config = (_config(folders[name] / CONFIG, class_name) for name, class_name in MODELS.items())
        refused = {
            "dual_cross_attention": bool(unet_config.get("dual_cross_attention")),
            "class_embed_type": unet_config.get("class_embed_type") is not None,
            "sample_size": not isinstance(unet_config.get("sample_size"), int),
        }
        for option in (option for option, is_refused in refused.items() if is_refused):
            file, got = folders["image_unet"] / CONFIG, f"{option}: {unet_config.get(option)}"
            raise UserError(f"{file} is not the image flow alone", got=got, expected="image_unet as it was released")
        try:
            unet, vae = UNet2DConditionModel.from_config(unet_config), AutoencoderKL.from_config(vae_config)
        except (TypeError, ValueError) as error:
            raise UserError("diffusers does not support a configuration of Versatile Diffusion", got=error) from error
        side = unet_config["sample_size"] * 2 ** (len(vae.config["block_out_channels"]) - 1)
        return UnCLIPModel(unet, vae, image_size=(side, side), null_tokens="zeros", output="corrected")


def read_models(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Return the weights of files by model, with the model's name before each key."""
    return {f"{name}.{key}": value for name, file in files.items() for key, value in read_state(file).items()}


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    got = "a folder" if folder.is_dir() else "no folder"
    raise UserError(f"{folder} holds no weights", got=got, expected=" or ".join(WEIGHTS))


def _config(file: Path, class_name: str) -> dict[str, Any]:
    """Return the configuration of a model as diffusers wrote it; raises a UserError if it is of another class."""
    if not file.is_file():
        raise UserError(f"{file} does not exist", expected=f"the configuration of a {class_name}")
    try:
        config = read_json(file)
        found = config["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no configuration of a model", got=f"{type(error).__name__}: {error}") from error
    if found != class_name:
        raise UserError(f"{file} is another model's", got=found, expected=class_name)
    return config


FORMAT = _VersatileDiffusionFormat("Versatile Diffusion", _PREFIXES)
