"""A generator and its discriminator from one set of sizes, and the generator as an image decoder.

Legend: B batch, E width of an embedding, P side of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.types import ArgumentsOf

#: Main latent of drawn images: zeros, as in Mind Reader's training, or random, as published for FID.
SampledLatents = Literal["zeros", "random"]

#: Sizes that only one of the two networks has.
_GENERATOR_ALONE = ("latent_dim", "w_dim", "mapping_layers", "fused")
_DISCRIMINATOR_ALONE = ("group_size", "projection_reduction")

#: Sizes as keyword arguments of both networks.
NetworkSizes = Annotated[Mapping[str, Any], ArgumentsOf(Generator, Discriminator)]


def build_generator(sizes: Mapping[str, Any]) -> Generator:
    """Return a generator; `sizes` are the arguments of `Generator`, those of `Discriminator` alone are ignored."""
    return Generator(**{key: value for key, value in sizes.items() if key not in _DISCRIMINATOR_ALONE})


def build_discriminator(sizes: Mapping[str, Any]) -> Discriminator:
    """Return a discriminator; `sizes` are the arguments of `Discriminator`, those of `Generator` alone are ignored."""
    return Discriminator(**{key: value for key, value in sizes.items() if key not in _GENERATOR_ALONE})


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
        self.requires_grad_(False).eval()

    @property
    def image_size(self) -> tuple[int, int]:
        """(P, P)."""
        return self.generator.image_size, self.generator.image_size

    @property
    def token_dim(self) -> int:
        """E."""
        first: Any = self.generator.blocks[0]
        return first.to_rgb.style.pre_nets[0][0].weight.shape[1]

    @torch.no_grad()
    def draw(self, tokens: Tensor, seeds: Sequence[int], init_images: Tensor | None = None) -> Tensor:
        """Draw images `(B, 3, P, P)` float32 in [0, 1].

        Args:
            tokens: `(B, 2, E)`, image and caption embedding; or `(B, 1, E)`, one embedding for both.
            seeds: B seeds of random latents.
            init_images: ignored.
        """
        width = self.generator.mapping.latent_dim
        latents = torch.zeros(len(tokens), width)
        if self.latents == "random":
            draws = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            latents = torch.stack(draws)
        made = self.generator(latents.to(tokens.device), tokens[:, 0], tokens[:, -1], noise="fixed")
        return ((made + 1) / 2).clamp(0, 1)
