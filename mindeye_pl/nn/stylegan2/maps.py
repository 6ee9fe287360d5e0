"""Feature maps of generator and discriminator: sizes, resampling by two with the filter [1, 3, 3, 1], and precision.

The maps of the highest resolutions follow autocast. Styles, scales of modulated kernels, batch statistics, heads and
the sum of the skip outputs stay in float32 at every training precision.

Legend: B batch, C channels, H and W side lengths.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

#: Taps of the separable low-pass filter; their sum is one.
TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


def sides(image_size: int) -> list[int]:
    """Return the sides of the maps, from 4 to the image's, which is a power of two of at least 16."""
    levels = image_size.bit_length() - 1
    assert image_size == 2**levels >= 16, f"images of {image_size} pixels"
    return [2**level for level in range(2, levels + 1)]


def channels_at(side: int, *, base: int, most: int) -> int:
    """Return the number of channels of maps of a side: `base / side`, at most `most`."""
    return min(base // side, most)


def _kernels(features: Tensor, gain: float) -> Tensor:
    """Return one 2-D filter per channel, `(C, 1, 4, 4)`."""
    taps = torch.tensor(TAPS, device=features.device)
    kernel = (gain * taps[:, None] * taps).to(features.dtype)
    return kernel.expand(features.shape[1], 1, -1, -1)


def blur(features: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Filter each channel, padded with zeros: `(B, C, H, W)` -> `(B, C, H + 2 padding - 3, W + 2 padding - 3)`."""
    return F.conv2d(features, _kernels(features, gain), padding=padding, groups=features.shape[1])


def upsample(features: Tensor) -> Tensor:
    """Double the sides: zeros between the samples, then the filter, which is symmetric and thus its own transpose."""
    return F.conv_transpose2d(features, _kernels(features, gain=4.0), stride=2, padding=1, groups=features.shape[1])


def downsample(features: Tensor) -> Tensor:
    """Halve the sides: the filter, then every second sample."""
    return F.conv2d(features, _kernels(features, gain=1.0), stride=2, padding=1, groups=features.shape[1])


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)


def precision_of(tensor: Tensor, *, mixed: bool) -> AbstractContextManager[object]:
    """Return a context that keeps autocast if `mixed`, else disables it."""
    return nullcontext() if mixed else full_precision(tensor)
