"""The laptop's foundation models from the weights that the package ships.

Every loader returns the model on the CPU in eval mode, and raises a UserError if the file is missing, damaged or not
this project's.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder, TokenKind, TokenStandardiser
from mindeye_pl.nn.clip.embeddings import ClampThenNormalise
from mindeye_pl.nn.clip.text_embedders import OpenCLIPTextEmbedder
from mindeye_pl.nn.diffusion.builders import build_captioner, build_clip, build_unclip, build_vae
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, SampledLatents, build_generator
from mindeye_pl.types import Clamp
from mindeye_pl.weights.files import fill, read_own

CLIP, VAE, UNCLIP, CAPTIONER = "clip.safetensors", "vae.safetensors", "unclip.safetensors", "captioner.safetensors"
GENERATOR = "generator.safetensors"

#: Folder of the shipped files, in half precision, described in its MODEL_CARD.md.
SHIPPED = Path(__file__).parents[1] / "shipped"


def load_clip(folder: str | Path | None = None) -> tuple[Any, CLIPImageEmbedder]:
    """Load the small CLIP, and the embedder around its vision tower."""
    weights, sizes = _read(folder, CLIP)
    standardise = TokenStandardiser(weights.pop("standardise.mean"), weights.pop("standardise.std"))
    network = fill(build_clip(**sizes), weights)
    return network, CLIPImageEmbedder(network.visual, input_range="corrected", standardise=standardise)


def load_embedder(
    folder: str | Path | None = None, tokens: TokenKind = "patches", clamp: Clamp | None = None
) -> CLIPImageEmbedder:
    """Load the image embedder; tokens of another kind, or clamped ones, are not standardised.

    Args:
        folder: folder of the file; None for the shipped one.
        tokens: see `CLIPImageEmbedder`.
        clamp: maximum of a token's elements before L2-normalisation; None leaves the tokens unchanged.
    """
    clip, embedder = load_clip(folder)
    if tokens == "patches" and clamp is None:
        return embedder
    normalise = None if clamp is None else ClampThenNormalise(clamp)
    return CLIPImageEmbedder(
        clip.visual, tokens=tokens, input_range="corrected", resizing="stretched", standardise=normalise
    )


def load_text_embedder(
    folder: str | Path | None = None, *, tokenize_captions: Callable[[Sequence[str]], Tensor]
) -> OpenCLIPTextEmbedder:
    """Load the text embedder of the small CLIP.

    Args:
        folder: folder of the file; None for the shipped one.
        tokenize_captions: see `OpenCLIPTextEmbedder`.
    """
    return OpenCLIPTextEmbedder(load_clip(folder)[0], tokenize_captions)


def load_vae(folder: str | Path | None = None) -> Any:
    """Load the VAE, with the image size in its configuration's `sample_size`.

    Args:
        folder: folder of the file; None for the shipped one.
    """
    weights, sizes = _read(folder, VAE)
    return fill(build_vae(**sizes), weights)


def load_unclip(folder: str | Path | None = None, path: str | Path = UNCLIP) -> UnCLIPModel:
    """Load the unCLIP with its VAE.

    Args:
        folder: folder of the files; None for the shipped one.
        path: of the unCLIP's file in that folder, or a whole path.
    """
    vae = load_vae(folder)
    weights, sizes = _read(folder, path)
    own = {f"vae.{key}": value for key, value in vae.state_dict().items()}
    return fill(build_unclip(sizes, vae, vae.config["sample_size"]), weights | own)


def load_captioner(folder: str | Path | None = None) -> Captioner:
    """Load the captioner.

    Args:
        folder: folder of the file; None for the shipped one.
    """
    weights, sizes = _read(folder, CAPTIONER)
    return fill(build_captioner(**sizes), weights)


def load_generator(folder: str | Path | None = None, latents: SampledLatents = "zeros") -> ImageGenerator:
    """Load the generator that was trained on images with captions, without its discriminator.

    Args:
        folder: folder of the file; None for the shipped one.
        latents: see `ImageGenerator`.
    """
    weights, sizes = _read(folder, GENERATOR)
    return ImageGenerator(fill(build_generator(sizes), own_part(weights, "generator")), latents=latents)


def own_part(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the weights of one of several networks in a file."""
    return {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}


def _read(folder: str | Path | None, name: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_own((SHIPPED if folder is None else Path(folder)) / name)
