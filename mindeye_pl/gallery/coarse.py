"""Reduction of tokens to one vector, by which a large gallery is searched before tokens are compared.

Legend: B batch, S tokens, D token width, F width of the vector.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

#: Maximum width of a vector: Milvus accepts no more, and a million of these take 65 GB.
WIDEST = 32_768


def class_token(tokens: Tensor) -> Tensor:
    """Return the only token, `(B, 1, D)` -> `(B, D)`, as MindEye1's class-token model has (its spec, section 9.2).

    Raises a UserError for more than one token.
    """
    if (count := tokens.shape[1]) != 1:
        what = "retrieve.vector=class_token needs a model of the class token alone"
        fix = "retrieve.coarse=['OVERRIDE',...] of that model, or retrieve.vector=flattened"
        raise UserError(what, got=f"{count} tokens", expected="1 token", fix=fix)
    return tokens[:, 0]


def mean_of_tokens(tokens: Tensor) -> Tensor:
    """Return the mean token, `(B, S, D)` -> `(B, D)`; positions in the image are lost."""
    return tokens.mean(1)


def flattened(tokens: Tensor) -> Tensor:
    """Return all values, `(B, S, D)` -> `(B, S * D)`; the cosine is that of the evaluation.

    Raises a UserError for more values than an index accepts.
    """
    vectors = tokens.flatten(1)
    if (width := vectors.shape[1]) > WIDEST:
        got, expected, fix = f"{width:,} values", f"{WIDEST:,} at most", "retrieve.vector=projected, or class_token"
        raise UserError("flattened tokens are too wide for an index", got=got, expected=expected, fix=fix)
    return vectors


def count_sketch(width: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Return a random projection of flattened tokens that keeps inner products up to noise of about `width ** -0.5`.

    Every value is added, with a random sign, to one random index of the vector (the count sketch of Charikar et al.
    2002; feature hashing, Weinberger et al. 2009, whose inner products are unbiased). It costs no more than reading the
    tokens, and no further memory, where a dense matrix from 426,000 values to 1,024 would take 1.7 GB. It maps
    `(B, S, D)` to `(B, width)`; vectors of two seeds are not comparable.
    """

    def project(tokens: Tensor) -> Tensor:
        values = tokens.flatten(1)  # (B, S * D)
        generator = torch.Generator().manual_seed(seed)
        indices = torch.randint(width, values.shape[1:], generator=generator)
        signs = torch.randint(2, values.shape[1:], generator=generator) * 2 - 1
        vectors = values.new_zeros(len(values), width)
        return vectors.index_add_(1, indices.to(values.device), values * signs.to(values))

    return project


#: Reductions of tokens `(B, S, D)` to vectors `(B, F)` of any length; `projected` reads F and the seed.
VECTORS: dict[str, Callable[[int, int], Callable[[Tensor], Tensor]]] = {
    "class_token": lambda width, seed: class_token,
    "mean_of_tokens": lambda width, seed: mean_of_tokens,
    "flattened": lambda width, seed: flattened,
    "projected": count_sketch,
}
