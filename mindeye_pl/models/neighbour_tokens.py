"""Tokens of known images near a retrieval embedding, in place of a prior's.

The contrastively trained retrieval embedding tells images apart better than the tokens of prior or backbone do. The
mean of known images' tokens, weighted by their similarity to it, is a kernel regression from the embedding to tokens.
MindEye1 (arXiv:2305.18274) takes the one nearest image of LAION-5B as a reconstruction.

Legend: B queries, N known images, S tokens, D token width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Known images whose tokens are in memory at once.
_BLOCK = 256


class TokenRows(Protocol):
    """Tokens `(S, D)` by stimulus id, as a `TokenStore` has them."""

    def __getitem__(self, ids: np.ndarray, /) -> Any: ...


@dataclass(frozen=True)
class NeighbourTokens:
    """Weighted means of known images' tokens.

    Attributes:
        tokens: of the known images.
        ids: `(N,)`, ascending.
        temperature: of the weights' softmax, in standard deviations of a query's similarities to the known images.
        spread: factor on the difference from the mean of all known images. A mean of images has less contrast than one
            image; 1 leaves it.
        device: of the computation.
    """

    tokens: TokenRows
    ids: np.ndarray
    temperature: float
    spread: float = 1.0
    device: torch.device | None = None

    @torch.no_grad()
    def __call__(self, retrieval: Tensor) -> Tensor:
        """Return tokens `(B, S, D)` float32 on the CPU for retrieval embeddings `(B, S, D)`; reads all tokens twice."""
        queries = F.normalize(retrieval.float().flatten(1), dim=1).to(self.device)  # (B, S*D)
        parts = [queries @ F.normalize(block.flatten(1), dim=1).T for _, block in self._blocks()]
        weights = neighbour_weights(torch.cat(parts, 1), self.temperature)  # (B, N)
        total, mean = torch.zeros_like(queries), torch.zeros_like(queries[0])
        for rows, block in self._blocks():
            total += weights[:, rows] @ block.flatten(1)
            mean += block.flatten(1).sum(0) / len(self.ids)
        return (mean + self.spread * (total - mean)).view(retrieval.shape).cpu()

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.ids), _BLOCK):
            rows = slice(start, start + _BLOCK)
            yield rows, torch.from_numpy(np.asarray(self.tokens[self.ids[rows]])).to(self.device).float()


def neighbour_weights(similarity: Tensor, temperature: float) -> Tensor:
    """Return the weights `(B, N)` of known images, which sum to 1, by cosine similarities `(B, N)`."""
    spread = similarity.std(1, correction=0, keepdim=True).clamp(min=1e-12)
    return (similarity / (temperature * spread)).softmax(1)
