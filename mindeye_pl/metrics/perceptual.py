"""Perceptual distance of images (LPIPS; Zhang et al. 2018).

Legend: N pairs of images, H and W image size.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def lpips_per_image(reconstructions: Tensor, images: Tensor, *, network: nn.Module, batch_size: int = 32) -> Tensor:
    """Weighted distance of each pair's features in five layers of AlexNet, normalised at each spatial position.

    Formula: mean over pairs of sum_l mean_hw sum_c w_lc (a_lchw - b_lchw)^2, with a and b of unit length over c
    Range: 0 upwards, rarely above 1
    Direction: lower is better.
    Chance: no single number; see the row of another test image
    Weights: alexnet
    Not shown: whether the object is the right one; a sharp image of something else can be nearer than a blurred image
        of the right thing. Values at different image sizes are not comparable.
    Source: Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, version 0.1

    Shape: `(N, 3, H, W)`, `(N, 3, H, W)` in [0, 1], in the same order -> `(N,)` float64. The network is that of
        `mindeye_pl.weights.loaders.feature_networks.load_lpips`.
    """
    assert reconstructions.shape == images.shape, f"{tuple(reconstructions.shape)}, {tuple(images.shape)}"
    batches = zip(reconstructions.split(batch_size), images.split(batch_size), strict=True)
    distances = [network(some.float(), others.float(), normalize=True).flatten() for some, others in batches]
    return torch.cat(distances).double()
