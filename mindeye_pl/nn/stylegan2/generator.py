"""The generator of Lafite and Mind Reader: StyleGAN2's with skip outputs and conditioned styles (spec section 5).

Legend: B batch, Z width of a latent, W width of an intermediate latent, E width of an embedding, P side of an image,
L layers with an intermediate latent of their own, C channels, S side of a block's maps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.conditions import Condition, StyleInjection, condition_widths, select_conditions
from mindeye_pl.nn.stylegan2.equalised import activate, add_channel_bias
from mindeye_pl.nn.stylegan2.mapping import MappingNetwork
from mindeye_pl.nn.stylegan2.maps import channels_at, full_precision, precision_of, sides, upsample
from mindeye_pl.nn.stylegan2.modulated_conv import ModulatedConv2d
from mindeye_pl.types import NonNegativeInt, PositiveFloat, PositiveInt

#: Noise added to the maps: new draws, the network's stored draws, or none.
NOISES = ("random", "fixed", "none")


class _LayerOptions(NamedTuple):
    """Options of all layers; see `Generator`."""

    w_dim: int
    widths: tuple[int, ...]  # E_k of the conditions
    fused: bool
    clamp: float | None


class _StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU. Shape: `(B, in, S or S / 2, ...)` -> `(B, out, S, S)`."""

    noise: Tensor  # (S, S)

    def __init__(self, in_channels: int, out_channels: int, side: int, *, up: bool, options: _LayerOptions):
        super().__init__()
        self.style = StyleInjection(in_channels, options.w_dim, options.widths)
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, up=up, fused=options.fused)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(side, side))
        self.clamp = options.clamp

    def forward(self, features: Tensor, w: Tensor, conditions: Sequence[Tensor], noise: str) -> Tensor:
        features = self.conv(features, self.style(w, conditions))
        if noise != "none":
            drawn = self.noise if noise == "fixed" else torch.randn_like(features[:, :1], dtype=torch.float32)
            features = features + (drawn * self.noise_strength).to(features.dtype)
        return activate(add_channel_bias(features, self.bias), clamp=self.clamp)


class _ToRGB(nn.Module):
    """A block's RGB output. Shape: `(B, C, S, S)` -> `(B, 3, S, S)` float32."""

    def __init__(self, channels: int, *, options: _LayerOptions):
        super().__init__()
        self.style = StyleInjection(channels, options.w_dim, options.widths)
        self.conv = ModulatedConv2d(channels, 3, 1, demodulate=False, fused=options.fused)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = options.clamp

    def forward(self, features: Tensor, w: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        rgb = add_channel_bias(self.conv(features, self.style(w, conditions)).float(), self.bias)
        return rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)


class _Block(nn.Module):
    """The layers of one resolution: two convolutions, the first of which doubles the sides, and an RGB output.

    The first block has one convolution, applied to a learned constant.
    """

    def __init__(self, in_channels: int | None, channels: int, side: int, *, mixed: bool, options: _LayerOptions):
        super().__init__()
        self.mixed = mixed
        self.convs = nn.ModuleList()
        if in_channels is None:
            self.constant = nn.Parameter(torch.randn(channels, side, side))
        else:
            self.convs.append(_StyledConv(in_channels, channels, side, up=True, options=options))
        self.convs.append(_StyledConv(channels, channels, side, up=False, options=options))
        self.to_rgb = _ToRGB(channels, options=options)

    def forward(
        self,
        features: Tensor | None,
        rgb: Tensor | None,
        styles: Sequence[Tensor],
        conditions: Sequence[Tensor],
        noise: str,
    ) -> tuple[Tensor, Tensor]:
        """Return the resolution's maps and image, given those of the resolution before, None for the first block.

        There is a style `(B, W)` for each convolution and for the RGB output.
        """
        *of_convs, of_image = styles
        with precision_of(of_image, mixed=self.mixed):
            if features is None:
                features = self.constant.expand(len(of_image), -1, -1, -1)
            elif not self.mixed:
                features = features.float()
            for conv, w in zip(self.convs, of_convs, strict=True):
                features = conv(features, w, conditions, noise)
            added = self.to_rgb(features, of_image, conditions)
        with full_precision(added):
            return features, added if rgb is None else upsample(rgb) + added


class Generator(nn.Module):
    """Generator of images from latents and embeddings.

    At the published sizes, 256 pixels and both embeddings, it has 55,503,266 parameters; with one embedding 44,997,026.

    Args:
        image_size: P, a power of two of at least 16.
        latent_dim: Z.
        w_dim: W.
        condition: `image` | `caption` | `both` | `signed_maximum`, see `conditions`.
        image_dim: E of the image embedding.
        caption_dim: E of the caption embedding.
        channel_base: maps of side S have `channel_base / S` channels.
        channel_max: maximal number of channels.
        mapping_layers: layers of the mapping network.
        clamp: bound of the activations, against overflow in half precision; None for no bound.
        mixed_resolutions: number of the highest resolutions that follow autocast; the others stay in float32.
        fused: see `modulated_conv2d`.
    """

    def __init__(
        self,
        image_size: PositiveInt = 256,
        *,
        latent_dim: PositiveInt = 512,
        w_dim: PositiveInt = 512,
        condition: Condition = "both",
        image_dim: PositiveInt = 512,
        caption_dim: PositiveInt = 512,
        channel_base: PositiveInt = 32_768,
        channel_max: PositiveInt = 512,
        mapping_layers: PositiveInt = 8,
        clamp: PositiveFloat | None = 256.0,
        mixed_resolutions: NonNegativeInt = 4,
        fused: bool = True,
    ):
        super().__init__()
        self.image_size, self.condition = image_size, condition
        options = _LayerOptions(w_dim, condition_widths(condition, image_dim, caption_dim), fused, clamp)
        self.mapping = MappingNetwork(latent_dim, w_dim, num_layers=mapping_layers)
        scale = sides(image_size)
        channels = [channels_at(side, base=channel_base, most=channel_max) for side in scale]
        self.blocks = nn.ModuleList(
            _Block(before, count, side, mixed=k >= len(scale) - mixed_resolutions, options=options)
            for k, (before, count, side) in enumerate(zip([None, *channels[:-1]], channels, scale, strict=True))
        )
        #: L: one per convolution, and one for the last RGB output.
        self.num_layers = 2 * len(scale)

    def forward(
        self, latents: Tensor, image: Tensor | None = None, caption: Tensor | None = None, *, noise: str = "random"
    ) -> Tensor:
        """Generate images `(B, 3, P, P)` float32, mostly in [-1, 1].

        Args:
            latents: `(B, Z)`; with zeros, as in Mind Reader's training, images depend on the embeddings alone.
            image: `(B, E)` image embeddings; None if the generator is conditioned on captions alone.
            caption: `(B, E)` caption embeddings; None if it is conditioned on images alone.
            noise: `random` | `fixed` | `none`; `random` draws from PyTorch's global generator.
        """
        return self.synthesise(self.styles(latents), image, caption, noise=noise)

    def styles(self, latents: Tensor) -> Tensor:
        """Return the layers' intermediate latents, `(B, L, W)` float32, which are equal until styles are mixed."""
        w = self.mapping(latents)
        if self.training:
            self.mapping.update_average(w)
        return w[:, None].expand(-1, self.num_layers, -1)

    def synthesise(
        self, styles: Tensor, image: Tensor | None = None, caption: Tensor | None = None, *, noise: str = "random"
    ) -> Tensor:
        """Generate images from intermediate latents `(B, L, W)`; other arguments and result as of `forward`.

        A block's RGB output has the same intermediate latent as the next block's first convolution.
        """
        assert noise in NOISES, f"{noise}, not one of {NOISES}"
        assert styles.shape[1] == self.num_layers, f"{styles.shape[1]} styles for {self.num_layers} layers"
        conditions = select_conditions(self.condition, image, caption)
        features = rgb = None
        layers, used = styles.unbind(1), 0
        for block in self.blocks:
            assert isinstance(block, _Block)
            features, rgb = block(features, rgb, layers[used : used + len(block.convs) + 1], conditions, noise)
            used += len(block.convs)
        assert rgb is not None
        return rgb
