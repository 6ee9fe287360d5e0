"""A generator and its discriminator from one set of sizes, and the generator as what makes images of tokens.

Legend: B batch, E width of an embedding, P side of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.types import ArgumentsOf

#: What the main latent is where images are made: zeros, as in Mind Reader's training, or drawn as published for FID.
SampledLatents = Literal["zeros", "random"]

#: Sizes that the one network has and the other has not.
_GENERATOR_ALONE = ("latent_dim", "w_dim", "mapping_layers", "fused")
_DISCRIMINATOR_ALONE = ("group_size", "projection_reduction")

#: Sizes as keyword arguments of both networks.
NetworkSizes = Annotated[Mapping[str, Any], ArgumentsOf(Generator, Discriminator)]


def build_generator(sizes: Mapping[str, Any]) -> Generator:
    """The generator of some sizes: the arguments of `Generator`; those of `Discriminator` alone are not looked at."""
    return Generator(**{key: value for key, value in sizes.items() if key not in _DISCRIMINATOR_ALONE})


def build_discriminator(sizes: Mapping[str, Any]) -> Discriminator:
    """The discriminator of the same sizes."""
    return Discriminator(**{key: value for key, value in sizes.items() if key not in _GENERATOR_ALONE})


class ImageGenerator(nn.Module):
    """Image and caption embeddings, as two tokens, to images.

    The module is frozen and in eval mode.

    Args:
        generator: trained.
        latents: `zeros` | `random`.
    """

    def __init__(self, generator: Generator, *, latents: SampledLatents = "zeros"):
        super().__init__()
        self.generator, self.latents = generator, latents
        self.requires_grad_(False).eval()

    @property
    def token_dim(self) -> int:
        """E."""
        first: Any = self.generator.blocks[0]
        return first.to_rgb.style.pre_nets[0][0].weight.shape[1]

    @torch.no_grad()
    def draw(self, tokens: Tensor, seeds: Sequence[int]) -> Tensor:
        """Images `(B, 3, P, P)` float32 in [0, 1].

        Args:
            tokens: `(B, 2, E)`, image and caption embedding; or `(B, 1, E)`, where one is all that conditions it.
            seeds: B of them, of the latents where they are drawn.
        """
        width = self.generator.mapping.latent_dim
        latents = torch.zeros(len(tokens), width)
        if self.latents == "random":
            draws = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            latents = torch.stack(draws)
        made = self.generator(latents.to(tokens.device), tokens[:, 0], tokens[:, -1], noise="fixed")
        return ((made + 1) / 2).clamp(0, 1)
