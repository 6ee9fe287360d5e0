"""Metrics on pixels: PixCorr and SSIM as published (MindEye2, spec section 10).

Legend: N pairs of pictures, H and W their size.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode
from torchvision.transforms.v2.functional import resize as tv_resize

from mindeye_pl.metrics.identification import correlation_of_each

#: Side in pixels to which the published evaluation resizes.
PUBLISHED_SIZE = 425


def _resized(pictures: Tensor, size: int | None) -> Tensor:
    """Bilinear without antialiasing, as the published code's torchvision did on tensors."""
    if size is None:
        return pictures
    return tv_resize(pictures, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=False)


def pixcorr(reconstructions: Tensor, pictures: Tensor, *, size: int | None = PUBLISHED_SIZE) -> Tensor:
    """Mean Pearson correlation of all pixel values of each pair; 1 is best, 0 is unrelated.

    Shape:
        `(N, 3, H, W)`, `(N, 3, H, W)` in [0, 1] -> scalar float64.
    """
    return pixcorr_of_each(reconstructions, pictures, size=size).mean()


def pixcorr_of_each(reconstructions: Tensor, pictures: Tensor, *, size: int | None = PUBLISHED_SIZE) -> Tensor:
    """As `pixcorr`, of each pair: `(N,)` float64; a picture of one colour is unrelated to all."""
    return correlation_of_each(_resized(reconstructions, size), _resized(pictures, size))


def ssim(reconstructions: Tensor, pictures: Tensor, *, size: int | None = PUBLISHED_SIZE) -> Tensor:
    """Mean structural similarity of the grey pictures, Gaussian weights, as scikit-image computes it.

    Shape:
        `(N, 3, H, W)`, `(N, 3, H, W)` in [0, 1] -> scalar float64.
    """
    return ssim_of_each(reconstructions, pictures, size=size).mean()


def ssim_of_each(reconstructions: Tensor, pictures: Tensor, *, size: int | None = PUBLISHED_SIZE) -> Tensor:
    """As `ssim`, of each pair: `(N,)` float64."""
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    grey = [
        rgb2gray(_resized(batch, size).permute(0, 2, 3, 1).cpu().numpy()) for batch in (reconstructions, pictures)
    ]  # (N, H, W) each
    scores = [
        structural_similarity(
            first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )
        for first, second in zip(*grey, strict=True)
    ]
    return torch.tensor(np.asarray(scores, dtype=np.float64))
