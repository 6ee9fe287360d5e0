"""Modulated convolution: each sample's style scales a kernel's input channels (arXiv 1912.04958, section 2.2).

Demodulation then normalises each of a sample's kernels to length one, so that the output has the input's variance.

Legend: B batch, I and O channels in and out, k kernel size, H and W side lengths.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.maps import blur, full_precision

_EPSILON = 1e-8


def modulated_conv2d(
    features: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False, fused: bool = True
) -> Tensor:
    """Convolve each sample with a kernel of its own, to `(B, O, H, W)`, or `(B, O, 2 H, 2 W)` with `up`.

    Scales are computed in float32; the convolution runs in the features' precision, or in autocast's. `up` doubles the
    maps: zeros between the samples, the convolution, and the filter; k is 3 then. `fused` convolves once with the
    samples as groups. False scales the channels before and after a convolution with the common kernel, which gives the
    same values and is up to four times as fast on a CPU for many channels.

    Shape: features `(B, I, H, W)`, weight `(O, I, k, k)`, k odd, style `(B, I)`.
    """
    batch, (out_channels, _, kernel_size, _) = len(features), weight.shape
    assert kernel_size == 3 or not up, kernel_size
    if fused:
        with full_precision(features):
            kernels = weight.float() * style.float()[:, None, :, None, None]  # (B, O, I, k, k)
            if demodulate:
                kernels = kernels * _inverse_length(kernels.square().sum((2, 3, 4), keepdim=True))
        convolved = _convolve(features.flatten(0, 1)[None], kernels.to(features.dtype), up=up)
        convolved = convolved[0].unflatten(0, (batch, out_channels))
    else:
        before, after = _channel_scales(weight, style, demodulate=demodulate)
        convolved = _convolve(features * before.to(features.dtype), weight[None].to(features.dtype), up=up)
        convolved = convolved * after.to(convolved.dtype)
    return blur(convolved, padding=1, gain=4.0) if up else convolved


def _convolve(features: Tensor, kernels: Tensor, *, up: bool) -> Tensor:
    """Convolve `(N, G I, H, W)` with G groups `(G, O, I, k, k)` to `(N, G O, H, W)`, sides 2 H + 1 with `up`."""
    groups, padding = len(kernels), kernels.shape[-1] // 2
    if not up:
        return F.conv2d(features, kernels.flatten(0, 1), padding=padding, groups=groups)
    transposed = kernels.transpose(1, 2).flip(3, 4).flatten(0, 1)  # (G I, O, k, k)
    return F.conv_transpose2d(features, transposed, stride=2, groups=groups)


def _channel_scales(weight: Tensor, style: Tensor, *, demodulate: bool) -> tuple[Tensor, Tensor]:
    """Return the factors on the maps before and after a common kernel, `(B, I, 1, 1)` and `(B, O or 1, 1, 1)`.

    A style's largest element is applied after the convolution, against overflow in half precision.
    """
    with full_precision(style):
        style = style.float()
        peak = style.detach().abs().amax(1, keepdim=True).clamp_min(_EPSILON)  # (B, 1)
        after = peak
        if demodulate:
            lengths = style.square() @ weight.float().square().sum((2, 3)).T  # (B, O)
            after = peak * _inverse_length(lengths)
        return (style / peak)[..., None, None], after[..., None, None]


def _inverse_length(squared: Tensor) -> Tensor:
    return (squared + _EPSILON).rsqrt()


class ModulatedConv2d(nn.Module):
    """Layer of `modulated_conv2d` with an equalised learning rate."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        demodulate: bool = True,
        up: bool = False,
        fused: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.weight_scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.demodulate, self.up, self.fused = demodulate, up, fused

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Apply the layer. Shape: `(B, I, H, W)`, `(B, I)` -> `(B, O, H, W)`, twice the sides with `up`."""
        weight = self.weight * self.weight_scale
        return modulated_conv2d(features, weight, style, demodulate=self.demodulate, up=self.up, fused=self.fused)
