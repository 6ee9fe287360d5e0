"""Contrastive losses of images and embeddings within a batch (Mind Reader, spec section 7).

Cosines and their softmax are computed in float32 at any training precision.

Legend: B batch, E embedding width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.contrastive import similarities


def log_match(first: Tensor, second: Tensor, *, temperature: float = 0.5, lam: float = 0.0) -> Tensor:
    """Return the mean log probability `()` float32 of identifying the partner; its negative is a loss.

    Args:
        first: `(B, E)`, for example embeddings of generated images.
        second: `(B, E)`, for example the conditions that they were generated with.
        temperature: divisor of the cosines.
        lam: weight of finding each row of `first` its partner among the rows of `second`; the published direction,
            from `second` to `first`, has the weight 1 - lam.
    """
    logits = similarities(first, second) / temperature  # (B, B)
    second_to_first, first_to_second = (logits.log_softmax(axis).diagonal().mean() for axis in (0, 1))
    return (1 - lam) * second_to_first + lam * first_to_second


def mean_log_match(
    firsts: Sequence[Tensor], seconds: Sequence[Tensor], *, temperature: float = 0.5, lam: float = 0.0
) -> Tensor:
    """Return `log_match` averaged over pairs, for example a discriminator's heads with the conditions.

    Shape: `(B, E_k)` each, `(B, E_k)` each -> `()`.
    """
    pairs = zip(firsts, seconds, strict=True)
    return torch.stack([log_match(*pair, temperature=temperature, lam=lam) for pair in pairs]).mean()


def perturb(embeddings: Tensor, *, noise_weight: float = 0.1, noise: Tensor | None = None) -> Tensor:
    """Add noise directions to embeddings and L2-normalise.

    The embedding is not normalised before mixing, so that noise has less effect on a long one.

    Args:
        embeddings: `(B, E)`.
        noise_weight: weight of the L2-normalised noise; the embedding has the weight 1 - noise_weight.
        noise: `(B, E)` of any length; None draws it with PyTorch's global generator.
    """
    embeddings = embeddings.float()
    noise = torch.randn_like(embeddings) if noise is None else noise.float()
    return F.normalize((1 - noise_weight) * embeddings + noise_weight * F.normalize(noise, dim=-1), dim=-1)
