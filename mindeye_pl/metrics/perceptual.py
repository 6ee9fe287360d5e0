"""Perceptual distance of images (LPIPS; Zhang et al. 2018).

The other distances between features, EffNet-B and SwAV, are `identification.correlation_distance` of what those
networks give.

Legend: N pairs of images, B a batch of them, H and W their size.
"""

import torch
from torch import Tensor, nn


def lpips(reconstructions: Tensor, images: Tensor, *, network: nn.Module, batch_size: int = 32) -> Tensor:
    """Mean weighted distance of the pairs' features in five layers of AlexNet, each place's features of length one.

    Formula: mean over pairs of sum_l mean_hw sum_c w_lc (a_lchw - b_lchw)^2, with a and b of unit length over c
    Range: 0 upwards, rarely above 1
    Direction: lower is better.
    Chance: no one number; the row of another test image stands for it
    Weights: alexnet
    Not shown: whether the object is the right one; a sharp image of something else can come nearer than a blurred
        one of the right thing, and values at other image sizes cannot be compared
    Source: Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, version 0.1

    Args:
        reconstructions: `(N, 3, H, W)` in [0, 1].
        images: the true ones, in the same order and of the same shape.
        network: of `mindeye_pl.weights.loaders.feature_networks.load_lpips`.
        batch_size: pairs that pass through the network at once.

    Returns:
        A float64 scalar.
    """
    return lpips_of_each(reconstructions, images, network=network, batch_size=batch_size).mean()


@torch.no_grad()
def lpips_of_each(reconstructions: Tensor, images: Tensor, *, network: nn.Module, batch_size: int = 32) -> Tensor:
    """As `lpips`, of each pair: `(N,)` float64."""
    assert reconstructions.shape == images.shape, f"{tuple(reconstructions.shape)}, {tuple(images.shape)}"
    batches = zip(reconstructions.split(batch_size), images.split(batch_size), strict=True)
    return torch.cat(
        [network(first.float(), second.float(), normalize=True).flatten() for first, second in batches]
    ).double()
