"""Resampling by two with the filter [1, 3, 3, 1], as the StyleGAN networks do between their resolutions.

Legend: B batch, C channels, H and W side lengths.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Taps of the separable low-pass filter; their sum is one.
TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def _kernels(features: Tensor, gain: float) -> Tensor:
    """Return one 2-D filter per channel, `(C, 1, 4, 4)`."""
    taps = torch.tensor(TAPS, device=features.device)
    kernel = (gain * taps[:, None] * taps).to(features.dtype)
    return kernel.expand(features.shape[1], 1, -1, -1)


def blur(features: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Filter each channel, padded with zeros.

    Shape:
        `(B, C, H, W)` -> `(B, C, H + 2 padding - 3, W + 2 padding - 3)`.
    """
    return F.conv2d(features, _kernels(features, gain), padding=padding, groups=features.shape[1])


def upsample(features: Tensor) -> Tensor:
    """Double the sides: zeros between the samples, then the filter. Shape: `(B, C, H, W)` -> `(B, C, 2 H, 2 W)`."""
    return F.conv_transpose2d(
        features, _kernels(features, gain=4.0), stride=2, padding=1, groups=features.shape[1]
    )  # the filter is symmetric and therefore its own transpose


def downsample(features: Tensor) -> Tensor:
    """Halve the sides: the filter, then every second sample. Shape: `(B, C, H, W)` -> `(B, C, H / 2, W / 2)`."""
    return F.conv2d(features, _kernels(features, gain=1.0), stride=2, padding=1, groups=features.shape[1])
