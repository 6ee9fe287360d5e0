"""Versatile Diffusion's image flow from its released files."""

from pathlib import Path

from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.weights.formats.versatile_diffusion import _states


def load_versatile_diffusion(image_unet: str | Path, vae: str | Path) -> UnCLIPModel:
    """As `load_published("versatile_diffusion", folder)`, each model from a file of its own.

    Args:
        image_unet: weights; the model's `config.json` lies beside them.
        vae: the same of the VAE.

    Raises:
        UserError: if a file is missing, broken, of another architecture, or a pickle with code in it.
    """
    from mindeye_pl.weights.registry import published_model

    files = {"image_unet": Path(image_unet), "vae": Path(vae)}
    folders = {name: file.parent for name, file in files.items()}
    return published_model("versatile_diffusion", _states(files), files["image_unet"], folders=folders)
