"""How well images match embeddings, among the images and embeddings of a batch (Mind Reader, spec section 7).

Cosines and their softmax are computed in float32 whatever the precision of training.

Legend: B batch, E embedding width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.contrastive import similarities
from mindeye_pl.losses.negatives import Negatives, gather_rows


def log_match(
    first: Tensor, second: Tensor, *, temperature: float = 0.5, lam: float = 0.0, negatives: Negatives = "local"
) -> Tensor:
    """Mean log probability that partners find one another; a loss is its negative.

    Args:
        first: `(B, E)`, for instance embeddings of made images.
        second: `(B, E)`, for instance the conditions that they were made with.
        temperature: of the cosines.
        lam: 0 asks of each row of `second` which row of `first` is its partner, as published; 1 asks the other way
            round; between them both count, 1 with this share.
        negatives: `local` | `gathered`, see `losses.negatives`; published is `local`.

    Returns:
        `()` float32, 0 at the most.
    """
    if negatives == "gathered":
        first, second = gather_rows(first), gather_rows(second)
    logits = similarities(first, second) / temperature  # (B, B)
    of_first, of_second = (logits.log_softmax(axis).diagonal().mean() for axis in (0, 1))
    return (1 - lam) * of_first + lam * of_second


def mean_log_match(
    firsts: Sequence[Tensor],
    seconds: Sequence[Tensor],
    *,
    temperature: float = 0.5,
    lam: float = 0.0,
    negatives: Negatives = "local",
) -> Tensor:
    """`log_match` of each pair, mean over the pairs: of a discriminator's heads with the conditions, for instance.

    Shape: `(B, E_k)` each, `(B, E_k)` each -> `()`.
    """
    matches = [
        log_match(first, second, temperature=temperature, lam=lam, negatives=negatives)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    return torch.stack(matches).mean()


def perturb(embeddings: Tensor, *, share: float = 0.1, noise: Tensor | None = None) -> Tensor:
    """Embeddings moved towards random directions, and brought to length one.

    The embedding counts with the length that it has, so that noise is less than its share of a long one.

    Args:
        embeddings: `(B, E)`.
        share: of the noise, whose length is one; the embedding has the rest.
        noise: `(B, E)` of any length; None draws it with PyTorch's global generator.

    Returns:
        `(B, E)` float32.
    """
    embeddings = embeddings.float()
    noise = torch.randn_like(embeddings) if noise is None else noise.float()
    return F.normalize((1 - share) * embeddings + share * F.normalize(noise, dim=-1), dim=-1)
