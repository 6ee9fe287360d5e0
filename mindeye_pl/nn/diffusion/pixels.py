"""Ranges of images `(B, 3, H, W)`: the VAE's input and output."""

from collections.abc import Callable

import torch
from torch import Tensor

from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.types import PublishedOrCorrected


def published_pixels(decoded: Tensor) -> Tensor:
    """Map the VAE's output to [0, 1] as the published script does, which suits tokens of washed-out images."""
    return (0.8 * decoded + 0.2).clamp(0, 1)


def corrected_pixels(decoded: Tensor) -> Tensor:
    """Map the VAE's output from [-1, 1] to [0, 1]."""
    return ((decoded + 1) / 2).clamp(0, 1)


#: Transforms of the VAE's output, by the name of the option `output`.
PIXELS: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": published_pixels,
    "corrected": corrected_pixels,
}


def _clip_range(images: Tensor) -> Tensor:
    """Normalise as CLIP does, the range in which MindEye1 gives the blurry image to the VAE (spec section 8.4)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(images) for values in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


#: Transforms of an init image before the VAE, by the name of the option `draft_range`.
DRAFT_RANGES: dict[PublishedOrCorrected, Callable[[Tensor], Tensor]] = {
    "published": _clip_range,
    "corrected": lambda images: 2 * images - 1,  # the VAE's range in training
}
