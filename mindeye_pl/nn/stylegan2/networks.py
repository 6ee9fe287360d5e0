"""A generator and its discriminator from one set of sizes, and the generator as an image decoder.

Legend: B batch, E width of an embedding, P side of an image.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from mindeye_pl.nn.diffusion.seeds import stream_draws
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.types import ArgumentsOf

#: Main latent of drawn images: zeros, as in Mind Reader's training, or random, as published for FID.
SampledLatents = Literal["zeros", "random"]

#: Sizes as keyword arguments of both networks.
NetworkSizes = Annotated[Mapping[str, Any], ArgumentsOf(Generator, Discriminator)]


def build_generator(sizes: Mapping[str, Any]) -> Generator:
    """Return a generator; `sizes` that only `Discriminator` has are ignored."""
    return Generator(**_arguments_of(Generator, sizes))


def build_discriminator(sizes: Mapping[str, Any]) -> Discriminator:
    """Return a discriminator; `sizes` that only `Generator` has are ignored."""
    return Discriminator(**_arguments_of(Discriminator, sizes))


def _arguments_of(network: type, sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sizes.items() if key in inspect.signature(network).parameters}


class ImageGenerator(ImageDecoder):
    """A trained generator that draws images from image and caption embeddings, given as two tokens.

    The module is frozen and in eval mode. It ignores `sampling` and init images.

    Args:
        generator: trained.
        latents: `zeros` | `random`.
    """

    def __init__(self, generator: Generator, *, latents: SampledLatents = "zeros"):
        super().__init__()
        self.generator, self.latents = generator, latents
        self.image_size = generator.image_size, generator.image_size
        first: Any = generator.blocks[0]
        self.token_dim = first.to_rgb.style.pre_nets[0][0].weight.shape[1]  # E
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def draw(self, tokens: Tensor, seeds: Sequence[int], init_images: Tensor | None = None) -> Tensor:
        """Draw images from tokens `(B, 2, E)`, image and caption embedding, or `(B, 1, E)`, one embedding for both."""
        width = self.generator.mapping.latent_dim
        random = self.latents == "random"
        latents = stream_draws(seeds, (width,)) if random else torch.zeros(len(tokens), width)
        made = self.generator(latents.to(tokens.device), tokens[:, 0], tokens[:, -1], noise="fixed")
        return ((made + 1) / 2).clamp(0, 1)
