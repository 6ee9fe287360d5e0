"""Adversarial losses with lazy regularisation (arXiv 1912.04958; Mind Reader, spec section 7).

A regulariser computed only every k steps is multiplied by k. Adam then makes k + 1 updates per k steps, so its learning
rate and the logarithms of its betas are scaled by k / (k + 1).

Legend: B batch, P image size, L layers with an intermediate latent, W latent width.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Steps between two regularisations of each network.
R1_INTERVAL = 16
PATH_LENGTH_INTERVAL = 4


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating logistic loss of the generator. Shape: `(B,)` -> `()`."""
    return F.softplus(-fake_logits.float()).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the logistic loss of the discriminator. Shape: `(B,)`, `(B,)` -> `()`."""
    return F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()


def r1_gamma(image_size: int, batch_size: int) -> float:
    """Return StyleGAN2-ADA's default weight of R1, for example 0.82 for 256 pixels and a batch of 16."""
    return 2e-4 * image_size**2 / batch_size


def r1_penalty(real_logits: Tensor, images: Tensor, *, gamma: float, interval: int = R1_INTERVAL) -> Tensor:
    """Return the R1 gradient penalty on real images, times the steps between two penalties.

    Shape: `(B,)`, computed from images `(B, 3, P, P)` that require a gradient -> `()` float32.
    """
    (gradients,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
    return interval * gamma / 2 * gradients.float().square().flatten(1).sum(1).mean()


class PathLength(NamedTuple):
    """Result of path length regularisation, float32."""

    loss: Tensor  # ()
    average: Tensor  # (), updated moving average of the lengths
    lengths: Tensor  # (B,)


def path_length_batch(batch_size: int) -> int:
    """Return the number of images for path lengths, half a batch because second derivatives need memory."""
    return max(1, batch_size // 2)


def path_length_penalty(
    images: Tensor,
    styles: Tensor,
    average: Tensor,
    *,
    weight: float = 2.0,
    decay: float = 0.01,
    interval: int = PATH_LENGTH_INTERVAL,
) -> PathLength:
    """Return the path length penalty: a step in latent space should change the image by the same amount everywhere.

    The path length is the norm of the gradient, with respect to the latents, of the image's inner product with noise
    drawn by PyTorch's global generator. It is averaged over layers, because a step is taken in all of them.

    Args:
        images: `(B, 3, P, P)`, generated from `styles`.
        styles: `(B, L, W)`, with a gradient.
        average: `()`, moving average of the lengths so far; initially 0.
        weight: weight of the penalty.
        decay: weight of the new value in the moving average.
        interval: steps between two penalties; multiplies the penalty.
    """
    noise = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
    (gradients,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    lengths = gradients.float().square().sum(2).mean(1).sqrt()
    average = average.lerp(lengths.detach().mean(), decay)
    return PathLength(interval * weight * (lengths - average).square().mean(), average, lengths.detach())


def lazy_adam(interval: int, *, lr: float = 0.0025) -> dict[str, Any]:
    """Return Adam's settings for a network with one extra update for its regulariser every `interval` steps.

    `lr` is the learning rate without a regulariser; an interval of 0 means none.
    """
    ratio = interval / (interval + 1) if interval else 1.0
    return {"lr": lr * ratio, "betas": (0.0**ratio, 0.99**ratio), "eps": 1e-8}
