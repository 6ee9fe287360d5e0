"""The discriminator of Lafite and Mind Reader: StyleGAN2's residual network with a head per embedding (spec section 6).

Legend: B batch, E_k width of embedding k, P side of an image, C channels, S side of a block's maps.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.conditions import Condition, condition_widths, select_conditions
from mindeye_pl.nn.stylegan2.equalised import EqualisedConv2d, EqualisedLinear
from mindeye_pl.nn.stylegan2.maps import channels_at, full_precision, precision_of, sides
from mindeye_pl.types import NonNegativeInt, PositiveFloat, PositiveInt

#: Reduction of the embeddings' match in the logits: summed over the batch, or per sample.
ProjectionReduction = Literal["batch_sum", "per_sample"]


class Judgement(NamedTuple):
    """Output of the discriminator: logits, and the embeddings predicted from the images."""

    logits: Tensor  # (B,) float32, higher for real images that match their embeddings
    semantics: tuple[Tensor, ...]  # (B, E_k) float32 each


def minibatch_deviation(features: Tensor, group_size: int = 4) -> Tensor:
    """Return the standard deviation within groups of samples, averaged over positions and channels.

    A batch that is no multiple of the group size is divided into the largest equal groups below it (arXiv 1710.10196,
    section 3). Shape: `(B, C, S, S)` -> `(B, 1, S, S)` float32, the same for every sample of a group.
    """
    batch, _, height, width = features.shape
    size = max(count for count in range(1, group_size + 1) if batch % count == 0)
    groups = features.float().reshape(size, batch // size, -1)  # sample i is in group i modulo batch / size
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean(1)  # (groups,)
    return deviation.repeat(size)[:, None, None, None].expand(-1, 1, height, width)


def project(
    semantics: Sequence[Tensor], conditions: Sequence[Tensor], *, reduction: ProjectionReduction = "batch_sum"
) -> Tensor:
    """Return the match of images and embeddings: inner products, averaged over the embeddings.

    `batch_sum` also sums over the batch, as published, so that every logit gets the same number and does not depend on
    the sample's own match. Shape: `(B, E_k)` each, `(B, E_k)` each -> `(B,)` for `per_sample`, else `()`.
    """
    products = [(predicted * true).sum(1) for predicted, true in zip(semantics, conditions, strict=True)]
    match = torch.stack(products).mean(0)
    return match.sum() if reduction == "batch_sum" else match


class _Block(nn.Module):
    """Two convolutions, the second halves the sides, and a skip. Shape: `(B, in, S, S)` -> `(B, out, S/2, S/2)`."""

    def __init__(self, in_channels: int, out_channels: int, *, clamp: PositiveFloat | None, mixed: bool):
        super().__init__()
        self.mixed = mixed
        half = math.sqrt(0.5)  # keeps the variance of the sum
        self.convs = nn.Sequential(
            EqualisedConv2d(in_channels, in_channels, 3, clamp=clamp),
            EqualisedConv2d(in_channels, out_channels, 3, down=True, gain=half, clamp=clamp),
        )
        self.skip = EqualisedConv2d(in_channels, out_channels, 1, down=True, plain=True, gain=half)

    def forward(self, features: Tensor) -> Tensor:
        with precision_of(features, mixed=self.mixed):
            if not self.mixed:
                features = features.float()
            return self.skip(features) + self.convs(features)


class Discriminator(nn.Module):
    """Logits of images and embeddings, and embeddings predicted from the images.

    At the published sizes, 256 pixels and both embeddings, it has 29,389,441 parameters; with one embedding 29,126,785.

    Args:
        image_size: P, a power of two of at least 16.
        condition: `image` | `caption` | `both` | `signed_maximum`, see `conditions`; independent of the generator's.
        image_dim: E of the image embedding.
        caption_dim: E of the caption embedding.
        channel_base: maps of side S have `channel_base / S` channels.
        channel_max: maximal number of channels.
        group_size: samples per group of `minibatch_deviation`.
        projection_reduction: `batch_sum` (published) | `per_sample` (corrected), see `project`.
        clamp: bound of the activations, against overflow in half precision; None for no bound.
        mixed_resolutions: number of the highest resolutions that follow autocast; the others stay in float32.
    """

    def __init__(
        self,
        image_size: PositiveInt = 256,
        *,
        condition: Condition = "both",
        image_dim: PositiveInt = 512,
        caption_dim: PositiveInt = 512,
        channel_base: PositiveInt = 32_768,
        channel_max: PositiveInt = 512,
        group_size: PositiveInt = 4,
        projection_reduction: ProjectionReduction = "batch_sum",
        clamp: PositiveFloat | None = 256.0,
        mixed_resolutions: NonNegativeInt = 4,
    ):
        super().__init__()
        self.condition, self.group_size, self.mixed = condition, group_size, mixed_resolutions > 0
        self.projection_reduction = projection_reduction
        scale = sides(image_size)[::-1]
        channels = [channels_at(side, base=channel_base, most=channel_max) for side in scale]
        self.from_rgb = EqualisedConv2d(3, channels[0], 1, clamp=clamp)
        self.blocks = nn.ModuleList(
            _Block(channels[k], channels[k + 1], clamp=clamp, mixed=k < mixed_resolutions)
            for k in range(len(channels) - 1)
        )
        last = channels[-1]
        self.conv = EqualisedConv2d(last + 1, last, 3, clamp=clamp)
        self.linear = EqualisedLinear(last * scale[-1] ** 2, last, activation=True)
        self.realness = EqualisedLinear(last, 1)
        self.semantics = nn.ModuleList(
            EqualisedLinear(last, width) for width in condition_widths(condition, image_dim, caption_dim)
        )

    def forward(self, images: Tensor, image: Tensor | None = None, caption: Tensor | None = None) -> Judgement:
        """Judge images `(B, 3, P, P)` in [-1, 1] with their embeddings `(B, E)`; an unused embedding may be None."""
        conditions = select_conditions(self.condition, image, caption)
        hidden = self._hidden(images)  # (B, C)
        with full_precision(hidden):
            semantics = tuple(head(hidden) for head in self.semantics)
            given = [condition.float() for condition in conditions]
            match = project(semantics, given, reduction=self.projection_reduction)
            return Judgement(self.realness(hidden)[:, 0] + match, semantics)

    def _hidden(self, images: Tensor) -> Tensor:
        with precision_of(images, mixed=self.mixed):
            features = self.from_rgb(images)
        for block in self.blocks:
            features = block(features)
        with full_precision(features):
            features = features.float()
            features = self.conv(torch.cat([features, minibatch_deviation(features, self.group_size)], 1))
            return self.linear(features.flatten(1))
