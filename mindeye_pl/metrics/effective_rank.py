"""Effective rank of a set of tokens: a measure of output-dimension collapse.

A decoder that has learned to pick from a few prototypes predicts tokens that vary along few directions, while the true
tokens vary along many. It may still score well on the images it was trained on.

Legend: N images, F values of their flattened tokens.
"""

import torch
from torch import Tensor

from mindeye_pl.metrics.statistics.checks import check_embeddings


def effective_rank(tokens: Tensor, *, block_size: int = 16_384) -> Tensor:
    """Effective number of directions in which tokens vary from image to image.

    Formula: exp(-sum over k of p_k log p_k), p_k = s_k / sum of s, s the singular values of the tokens `(N, F)` after
        subtracting the mean over images
    Range: 1 to min(N - 1, F), 0 if all images have the same tokens
    Direction: higher is better.
    Chance: no single number; compare with the effective rank of the true tokens of the same images
    Weights: none for this function; those of the CLIP model that computed the tokens.
    Not shown: whether the directions are the right ones: noise has the highest rank of all. It grows with N, so compare
        only sets of the same images.
    Source: Roy and Vetterli 2007, "The effective rank"; the critique: Shirakawa et al. 2024 (arXiv 2405.10078).

    Only the N x N matrix of inner products is held in memory; features are read in blocks of `block_size` values.

    Shape: `(N, ...)` floating point of any precision, memory-mapped is fine -> float64 scalar.

    Raises:
        UserError: as `checks.check_embeddings`.
    """
    check_embeddings(tokens, what="tokens")
    singular = _singular_values(tokens.flatten(1), block_size)
    if singular.sum() == 0:
        return singular.new_zeros(())
    return torch.special.entr(singular / singular.sum()).sum().exp()


def _singular_values(features: Tensor, block_size: int) -> Tensor:
    """Return the singular values of the centred features, `(N, F)` -> `(N,)` float64, with rounding errors set to 0."""
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
