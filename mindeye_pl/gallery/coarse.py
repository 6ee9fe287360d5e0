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
    """Return the only token, as in the class-token model of MindEye1 (spec of MindEye1, section 9.2).

    Shape:
        tokens `(B, 1, D)` -> `(B, D)`.

    Raises:
        UserError: for more than one token.
    """
    if tokens.shape[1] != 1:
        raise UserError(
            "retrieve.vector=class_token needs a model of the class token alone",
            got=f"{tokens.shape[1]} tokens",
            expected="1 token",
            fix="retrieve.coarse=['OVERRIDE',...] of that model, or retrieve.vector=flattened",
        )
    return tokens[:, 0]


def mean_of_tokens(tokens: Tensor) -> Tensor:
    """Return the mean token, `(B, S, D)` -> `(B, D)`; positions in the image are lost."""
    return tokens.mean(1)


def flattened(tokens: Tensor) -> Tensor:
    """Return all values; the cosine is that of the evaluation.

    Shape:
        tokens `(B, S, D)` -> `(B, S * D)`.

    Raises:
        UserError: for more values than an index accepts.
    """
    vectors = tokens.flatten(1)
    if vectors.shape[1] > WIDEST:
        raise UserError(
            "flattened tokens are too wide for an index",
            got=f"{vectors.shape[1]:,} values",
            expected=f"{WIDEST:,} at most",
            fix="retrieve.vector=projected, or class_token",
        )
    return vectors


def count_sketch(width: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Return a random projection of flattened tokens that keeps inner products up to noise of about `width ** -0.5`.

    Every value is added, with a random sign, to one random place of the vector (the count sketch of Charikar et al.
    2002; feature hashing, Weinberger et al. 2009, whose inner products are unbiased). It costs no more than reading the
    tokens, and no further memory, where a dense matrix from 426,000 values to 1,024 would take 1.7 GB.

    Args:
        width: F.
        seed: of signs and indices; vectors of two seeds are not comparable.

    Returns:
        A function from tokens `(B, S, D)` to `(B, F)`.
    """

    def project(tokens: Tensor) -> Tensor:
        values = tokens.flatten(1)  # (B, S * D)
        generator = torch.Generator().manual_seed(seed)
        places = torch.randint(width, values.shape[1:], generator=generator)
        signs = torch.randint(2, values.shape[1:], generator=generator) * 2 - 1
        vectors = values.new_zeros(len(values), width)
        return vectors.index_add_(1, places.to(values.device), values * signs.to(values))

    return project


#: Reductions by name, from the settings of `projected`.
VECTORS: dict[str, Callable[[int, int], Callable[[Tensor], Tensor]]] = {
    "class_token": lambda width, seed: class_token,
    "mean_of_tokens": lambda width, seed: mean_of_tokens,
    "flattened": lambda width, seed: flattened,
    "projected": count_sketch,
}


def coarse_vector(name: str, width: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Return the reduction of this name, from tokens `(B, S, D)` to vectors `(B, F)` of any length.

    Args:
        name: one of `VECTORS`.
        width: F of "projected"; the others have their own.
        seed: of "projected".
    """
    return VECTORS[name](width, seed)
