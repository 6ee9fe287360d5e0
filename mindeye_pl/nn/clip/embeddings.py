"""CLIP embeddings as targets: clamped, normalised, and one drawn of several (Mind Reader, spec sections 2.2 and 3.3).

Legend: B batch, C captions of an image at most, D embedding width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Where the elements of an embedding of CLIP ViT-B/32 are clamped: few of them lie outside, and those far.
CLAMP = 1.5

#: Normalisation of a prior's samples.
Renormalisation = Literal["none", "first_token"]


def clamp_then_normalise(embeddings: Tensor, *, limit: float = CLAMP) -> Tensor:
    """Elements clamped to [-limit, limit], and then each row brought to length one.

    The order matters: the elements of a row of length one are all inside.

    Shape:
        `(..., D)` -> `(..., D)` float32.
    """
    return F.normalize(embeddings.float().clamp(-limit, limit), dim=-1)


class ClampThenNormalise(nn.Module):
    """`clamp_then_normalise` as the last layer of an embedder.

    Args:
        limit: see there.
    """

    def __init__(self, limit: float = CLAMP):
        super().__init__()
        self.limit = limit

    def forward(self, embeddings: Tensor) -> Tensor:
        """Shape: `(..., D)` -> `(..., D)` float32."""
        return clamp_then_normalise(embeddings, limit=self.limit)


def is_caption(captions: Tensor) -> Tensor:
    """Which places hold a caption: those of an image with fewer, or of rejected captions, are zeros.

    Shape:
        `(B, C, D)` -> `(B, C)` bool.
    """
    return captions.ne(0).any(-1)


def draw_caption(captions: Tensor) -> Tensor:
    """One embedding of each image's, any of them as likely as another, by PyTorch's global generator.

    Args:
        captions: `(B, C, D)`, zeros where there is no caption; every image has one at the least.

    Returns:
        `(B, D)`.
    """
    lots = torch.rand(captions.shape[:2], device=captions.device).masked_fill(~is_caption(captions), -1)
    return captions[torch.arange(len(captions), device=captions.device), lots.argmax(1)]


def mean_caption(captions: Tensor) -> Tensor:
    """The mean of each image's embeddings, of length one: what validation and the ceiling take.

    Shape:
        `(B, C, D)` -> `(B, D)` float32.
    """
    return F.normalize(captions.float().sum(1), dim=-1)


def by_first_token(tokens: Tensor) -> Tensor:
    """Tokens by the norm of each sample's first one, which is the class token. Shape: `(B, S, D)` -> `(B, S, D)`.

    So are MindEye1's target tokens made, and so are its samples brought back to them (spec sections 3.1 and 4.3).
    """
    return tokens / (tokens[:, :1].norm(dim=-1, keepdim=True) + 1e-6)
