"""Versatile Diffusion's image flow from its released files."""

from pathlib import Path

from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.formats.versatile_diffusion import read_models
from mindeye_pl.weights.registry import published_model


def load_versatile_diffusion(image_unet: str | Path, vae: str | Path) -> UnCLIPModel:
    """Load the model as `load_published`, each part from its own file.

    Args:
        image_unet: weights, with the model's `config.json` in the same folder.
        vae: weights of the VAE, with its `config.json`.
    """
    files = {"image_unet": Path(image_unet), "vae": Path(vae)}
    folders = {name: file.parent for name, file in files.items()}
    return published_model("versatile_diffusion", read_models(files), files["image_unet"], folders=folders)
