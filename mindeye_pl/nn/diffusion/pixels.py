"""Ranges of pixels: the VAE's and CLIP's input, and the VAE's output.

Legend: B images, H and W image size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.types import PublishedOrCorrected


def published_pixels(decoded: Tensor) -> Tensor:
    """Return the published script's pixels of the VAE's output, which suit tokens of washed-out images.

    Shape:
        `(B, 3, H, W)` in [-1, 1] -> `(B, 3, H, W)` in [0, 1].
    """
    return (0.8 * decoded + 0.2).clamp(0, 1)


def corrected_pixels(decoded: Tensor) -> Tensor:
    """Map the VAE's output from [-1, 1] to [0, 1]. Shape: `(B, 3, H, W)` -> `(B, 3, H, W)`."""
    return ((decoded + 1) / 2).clamp(0, 1)


#: Transforms of the VAE's output, by the name of the option `output`.
PIXELS: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": published_pixels,
    "corrected": corrected_pixels,
}


def clip_range(images: Tensor) -> Tensor:
    """Normalise images as CLIP does, the range in which MindEye1 gives the blurry image to the VAE (spec section 8.4).

    Shape:
        `(B, 3, H, W)` in [0, 1] -> `(B, 3, H, W)`.
    """
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(images) for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def vae_range(images: Tensor) -> Tensor:
    """Map images from [0, 1] to [-1, 1], the VAE's range in training. Shape: `(B, 3, H, W)` -> `(B, 3, H, W)`."""
    return 2 * images - 1


#: Transforms of an init image before the VAE, by the name of the option `draft_range`.
DRAFT_RANGES: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": clip_range,
    "corrected": vae_range,
}
