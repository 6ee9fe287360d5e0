"""Metrics on pixels: PixCorr and SSIM as published (MindEye2, spec section 10).

Legend: N pairs of pictures, H and W their size.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode
from torchvision.transforms.v2.functional import resize as tv_resize

from mindeye_pl.metrics.identification import correlation_distance

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
    return 1 - correlation_distance(_resized(reconstructions, size), _resized(pictures, size))


def ssim(reconstructions: Tensor, pictures: Tensor, *, size: int | None = PUBLISHED_SIZE) -> Tensor:
    """Mean structural similarity of the grey pictures, Gaussian weights, as scikit-image computes it.

    Shape:
        `(N, 3, H, W)`, `(N, 3, H, W)` in [0, 1] -> scalar float64.
    """
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
    return torch.tensor(float(np.mean(scores)), dtype=torch.float64)
