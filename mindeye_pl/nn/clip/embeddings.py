"""CLIP embeddings as targets: clamping, normalisation, sampling of captions (Mind Reader, spec sections 2.2 and 3.3).

Legend: B batch, C maximal number of an image's captions, D embedding width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Clamp of the elements of CLIP ViT-B/32 embeddings: few lie outside, and those far.
CLAMP = 1.5

#: Normalisation of a prior's samples.
Renormalisation = Literal["none", "first_token"]


def clamp_then_normalise(embeddings: Tensor, *, limit: float = CLAMP) -> Tensor:
    """Clamp elements to [-limit, limit], then L2-normalise each row.

    The order matters: after normalisation all elements are inside the limits. Shape: `(..., D)` -> the same, float32.
    """
    return F.normalize(embeddings.float().clamp(-limit, limit), dim=-1)


class ClampThenNormalise(nn.Module):
    """`clamp_then_normalise` as the last layer of an embedder."""

    def __init__(self, limit: float = CLAMP):
        super().__init__()
        self.limit = limit

    def forward(self, embeddings: Tensor) -> Tensor:
        """Clamp and normalise."""
        return clamp_then_normalise(embeddings, limit=self.limit)


def is_caption(captions: Tensor) -> Tensor:
    """Return a mask `(B, C)` bool of the rows of `(B, C, D)` with a caption; missing and rejected ones are zeros."""
    return captions.ne(0).any(-1)


def draw_caption(captions: Tensor) -> Tensor:
    """Sample one caption embedding per image uniformly, by PyTorch's global generator. Every image has at least one.

    Shape: `(B, C, D)`, zeros where a caption is missing -> `(B, D)`.
    """
    draws = torch.rand(captions.shape[:2], device=captions.device).masked_fill(~is_caption(captions), -1)
    return captions[torch.arange(len(captions), device=captions.device), draws.argmax(1)]


def mean_caption(captions: Tensor) -> Tensor:
    """Return the L2-normalised mean `(B, D)` float32 of each image's captions `(B, C, D)`, in validation the target."""
    return F.normalize(captions.float().sum(1), dim=-1)


def by_first_token(tokens: Tensor) -> Tensor:
    """Divide tokens `(B, S, D)` by the norm of each sample's first token (MindEye1, spec sections 3.1 and 4.3)."""
    return tokens / (tokens[:, :1].norm(dim=-1, keepdim=True) + 1e-6)
