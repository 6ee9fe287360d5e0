"""Adversarial losses and their lazy regularisation (arXiv 1912.04958; Mind Reader, spec section 7).

A regulariser that is taken at every k-th step alone counts k times as much there. Adam makes k + 1 steps then where it
would have made k, so that its learning rate and the logarithms of its betas shrink to k / (k + 1).

Legend: B batch, P side of an image, L layers with an intermediate latent, W its width.
"""

import math
from typing import NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

#: Every how many steps each network is regularised.
R1_INTERVAL = 16
PATH_LENGTH_INTERVAL = 4


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss: made images should be taken for real. Shape: `(B,)` -> `()`."""
    return F.softplus(-fake_logits.float()).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss: real images should be told from made ones. Shape: `(B,)`, `(B,)` -> `()`."""
    return F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()


def r1_gamma(image_size: int, batch_size: int) -> float:
    """The weight of R1 that StyleGAN2-ADA takes where none is given: 0.82 for 256 pixels and a batch of 16."""
    return 2e-4 * image_size**2 / batch_size


def r1_penalty(real_logits: Tensor, images: Tensor, *, gamma: float, interval: int = R1_INTERVAL) -> Tensor:
    """Squared slope of the discriminator at real images, times gamma / 2.

    Args:
        real_logits: `(B,)`, computed from the images.
        images: `(B, 3, P, P)`, which require a gradient.
        gamma: weight.
        interval: steps from one penalty to the next, with which it is multiplied.

    Returns:
        `()` float32.
    """
    (slopes,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
    return interval * gamma / 2 * slopes.float().square().flatten(1).sum(1).mean()


class PathLength(NamedTuple):
    """What path length regularisation gives.

    Attributes:
        loss: `()` float32.
        average: `()` float32, the moving average of the lengths, for the next time.
        lengths: `(B,)` float32.
    """

    loss: Tensor
    average: Tensor
    lengths: Tensor


def path_length_batch(batch_size: int, *, shrink: int = 2) -> int:
    """How many images the path lengths are taken of; they need memory for two derivatives."""
    return max(1, batch_size // shrink)


def path_length_penalty(
    images: Tensor,
    styles: Tensor,
    average: Tensor,
    *,
    weight: float = 2.0,
    decay: float = 0.01,
    interval: int = PATH_LENGTH_INTERVAL,
) -> PathLength:
    """Keeps a step in the intermediate latents as long in the image, whatever the latents and the direction.

    A path's length is that of the gradient, by the latents, of the image's inner product with noise; noise is drawn
    with PyTorch's global generator. Mean over the layers, as a step is taken in all of them.

    Args:
        images: `(B, 3, P, P)`, made from `styles`.
        styles: `(B, L, W)`, with a gradient.
        average: `()`, the moving average of the lengths so far; 0 at first.
        weight: of the penalty.
        decay: share of the moving average that is renewed.
        interval: steps from one penalty to the next, with which it is multiplied.
    """
    noise = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
    (slopes,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    lengths = slopes.float().square().sum(2).mean(1).sqrt()
    average = average.lerp(lengths.detach().mean(), decay)
    return PathLength(interval * weight * (lengths - average).square().mean(), average, lengths.detach())


class AdamSettings(TypedDict):
    """Arguments of `torch.optim.Adam`."""

    lr: float
    betas: tuple[float, float]
    eps: float


def lazy_adam(interval: int, *, lr: float = 0.0025, betas: tuple[float, float] = (0.0, 0.99)) -> AdamSettings:
    """Settings of Adam for a network that makes a step more every `interval` steps, for its regulariser.

    Args:
        interval: see `R1_INTERVAL` and `PATH_LENGTH_INTERVAL`; 0 for no regulariser.
        lr: learning rate without a regulariser.
        betas: decay of the moments without a regulariser.
    """
    ratio = interval / (interval + 1) if interval else 1.0
    return {"lr": lr * ratio, "betas": (betas[0] ** ratio, betas[1] ** ratio), "eps": 1e-8}
