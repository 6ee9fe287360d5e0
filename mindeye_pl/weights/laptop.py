"""The laptop's own foundation weights: where they are shipped, and the models that they make."""

from pathlib import Path
from typing import Any

from mindeye_pl.nn.clip_embedder import CLIPImageEmbedder, TokenStandardiser
from mindeye_pl.nn.foundation_sizes import build_clip, build_unclip, build_vae
from mindeye_pl.nn.unclip import UnCLIPModel
from mindeye_pl.weights.own import fill, read_own

CLIP, VAE, UNCLIP = "clip.safetensors", "vae.safetensors", "unclip.safetensors"


def load_clip(path: str | Path) -> tuple[Any, CLIPImageEmbedder]:
    """The whole small CLIP of a file, and the embedder around its vision tower.

    Raises:
        UserError: if the file is missing, damaged or not this project's.
    """
    weights, sizes = read_own(Path(path))
    standardise = TokenStandardiser(weights.pop("standardise.mean"), weights.pop("standardise.std"))
    network = build_clip(**sizes)
    fill(network, weights)
    return network, CLIPImageEmbedder(network.visual, input_range="corrected", standardise=standardise)


def load_vae(path: str | Path) -> Any:
    """The VAE of a file, with `picture_size` in its configuration's `sample_size`.

    Raises:
        UserError: as `load_clip`.
    """
    weights, sizes = read_own(Path(path))
    return fill(build_vae(**sizes), weights)


def load_unclip(folder: str | Path) -> UnCLIPModel:
    """The unCLIP and the VAE of a folder, on the CPU in eval mode.

    Raises:
        UserError: as `load_clip`.
    """
    vae = load_vae(Path(folder) / VAE)
    weights, sizes = read_own(Path(folder) / UNCLIP)
    model = build_unclip(sizes, vae, vae.config["sample_size"])
    own = {f"vae.{key}": value for key, value in vae.state_dict().items()}
    fill(model, weights | own)
    return model
