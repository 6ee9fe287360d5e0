"""Layers with an equalised learning rate: weights of unit variance, scaled at each use (arXiv 1710.10196).

Every weight then learns at the same relative speed, independent of the layer's width. A learning rate multiplier m
trains a layer as if its learning rate were m times as high, from the same initial function.

Legend: B batch, I and O width or channels in and out, k kernel size, H and W side lengths.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.maps import blur, downsample


def activate(features: Tensor, *, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Apply leaky ReLU times sqrt(2), which keeps the variance, clamp to +-`clamp`, and multiply by `gain`."""
    features = F.leaky_relu(features, 0.2) * (math.sqrt(2) * gain)
    return features if clamp is None else features.clamp(-clamp * gain, clamp * gain)


def add_channel_bias(features: Tensor, bias: Tensor) -> Tensor:
    """Add `(C,)` to `(B, C, H, W)` in the precision of the latter."""
    return features + bias.to(features.dtype)[:, None, None]


class EqualisedLinear(nn.Module):
    """A linear map, optionally followed by a leaky ReLU; `bias` is the initial value."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
        activation: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias / lr_multiplier))
        self.lr_multiplier = lr_multiplier
        self.weight_scale = lr_multiplier / math.sqrt(in_features)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer. Shape: `(..., I)` -> `(..., O)`."""
        features = F.linear(features, self.weight * self.weight_scale, self.bias * self.lr_multiplier)
        return activate(features) if self.activation else features


class EqualisedConv2d(nn.Module):
    """A convolution with k of 1 or 3, followed by bias and leaky ReLU unless `plain`.

    `down` halves the maps, by a filter before the convolution; `gain` is a factor on the output, `clamp` a bound of the
    activation, against overflow in half precision.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        down: bool = False,
        plain: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ):
        super().__init__()
        assert kernel_size in (1, 3), kernel_size
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = None if plain else nn.Parameter(torch.zeros(out_channels))
        self.weight_scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.kernel_size, self.down, self.gain, self.clamp = kernel_size, down, gain, clamp

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer. Shape: `(B, I, H, W)` -> `(B, O, H, W)`, half the sides with `down`."""
        weight = (self.weight * self.weight_scale).to(features.dtype)
        if not self.down:
            features = F.conv2d(features, weight, padding=self.kernel_size // 2)
        elif self.kernel_size == 1:
            features = F.conv2d(downsample(features), weight)
        else:
            features = F.conv2d(blur(features, padding=2), weight, stride=2)
        if self.bias is None:
            return features * self.gain
        return activate(add_channel_bias(features, self.bias), gain=self.gain, clamp=self.clamp)
