"""How many directions a set of tokens really uses: the critique of output-dimension collapse, as a number.

A decoder that learned to pick from a few prototypes predicts tokens that vary along a few directions, while the tokens
of the images vary along many. It may still score well on what it has seen.

Legend: N images, F values of their flattened tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.metrics.statistics.checks import check_embeddings


def effective_rank(tokens: Tensor, *, names: Sequence[str] | None = None, block_size: int = 16_384) -> Tensor:
    """Effective number of directions in which tokens vary from image to image.

    Formula: exp(-sum over k of p_k log p_k), p_k = s_k / sum of s, s the singular values of the tokens `(N, F)` after
        the mean over images was taken off
    Range: 1 to min(N - 1, F), 0 where all images have the same tokens
    Direction: higher is better.
    Chance: no one number; that of the true tokens of the same images stands beside it
    Weights: none for this function; those of the CLIP model that made the tokens.
    Not shown: whether the directions are the right ones: noise has the highest rank of all. It grows with N, so that
        only sets of the same images can be compared.
    Source: Roy and Vetterli 2007, "The effective rank"; the critique: Shirakawa et al. 2024 (arXiv 2405.10078).

    Only the N x N matrix of inner products is made, from blocks of the features.

    Args:
        tokens: `(N, ...)` floating point of any precision; memory-mapped is fine.
        names: of the N images, for messages.
        block_size: values of an image taken at once.

    Returns:
        A scalar, float64.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    check_embeddings(tokens, what="tokens", names=names)
    singular = _singular_values(tokens.flatten(1), block_size)
    if singular.sum() == 0:
        return singular.new_zeros(())
    return torch.special.entr(singular / singular.sum()).sum().exp()


def effective_rank_ratio(
    predicted: Tensor, true: Tensor, *, names: Sequence[str] | None = None, block_size: int = 16_384
) -> Tensor:
    """Effective rank of predicted tokens as a share of that of the true ones.

    Formula: effective_rank(predicted) / effective_rank(true)
    Range: 0 upwards; 1 is as many directions as the truth, noise lies above
    Direction: higher is better.
    Chance: no one number; 0 for one answer to all images
    Weights: none for this function; those of the CLIP model that made the tokens.
    Not shown: whether the directions are the right ones; read it beside retrieval.
    Source: Roy and Vetterli 2007; Shirakawa et al. 2024 (arXiv 2405.10078).

    Args:
        predicted: `(N, ...)` floating point.
        true: `(N, ...)`, of the same images in the same order, which must not all be the same.
        names: of the N images, for messages.
        block_size: values of an image taken at once.

    Returns:
        A scalar, float64.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    check_embeddings(predicted, what="predicted tokens", names=names, like=true)
    return effective_rank(predicted, names=names, block_size=block_size) / effective_rank(
        true, names=names, block_size=block_size
    )


def _singular_values(features: Tensor, block_size: int) -> Tensor:
    """Of the centred features, `(N, F)` -> `(N,)` float64, what is rounding set to 0."""
    num = len(features)
    gram = torch.zeros(num, num, dtype=torch.float64, device=features.device)
    raw = gram.new_zeros(())  # sum of squares before centring, which sets the scale of rounding
    for start in range(0, features.shape[1], block_size):
        block = features[:, start : start + block_size].double()
        raw += block.square().sum()
        block = block - block.mean(0)
        gram += block @ block.T
    squares = torch.linalg.eigvalsh(gram)
    rounding = num * torch.finfo(torch.float64).eps * torch.maximum(squares.max(), 1e-13 * raw)
    return torch.where(squares > rounding, squares, 0.0).sqrt()
