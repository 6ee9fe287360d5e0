"""SDXL's two text towers: CLIP ViT-L's and OpenCLIP ViT-bigG's (MindEye2, spec section 9).

Legend: B captions, L = 77 token ids, E width of a tower: 768 and 1280, T = 2048 their sum.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


def text_tower(
    *, width: int, layers: int, heads: int, output_dim: int | None, vocabulary: int = 49408, quick: bool = False
) -> Any:
    """Return a text transformer of open_clip.

    An `output_dim` of None omits the projection of the pooled embedding; `quick` takes OpenAI's approximation of GELU.
    """
    from open_clip.transformer import QuickGELU, TextTransformer

    sizes: Any = {"width": width, "layers": layers, "heads": heads, "output_dim": output_dim, "vocab_size": vocabulary}
    return TextTransformer(**sizes, act_layer=QuickGELU if quick else nn.GELU)


class SDXLText(nn.Module):
    """Text condition of SDXL's UNet: hidden states of both towers before their last block, and one pooled vector.

    Both are `text_tower`s, `clip_l` with OpenAI's GELU, `bigg` with a projection.
    """

    def __init__(self, clip_l: Any, bigg: Any):
        super().__init__()
        self.clip_l, self.bigg = clip_l, bigg
        self.requires_grad_(False).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer()  # its vocabulary is part of open_clip

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled vector."""
        return self.bigg.text_projection.shape[1]

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids for CLIP ViT-L, padded with the end token, and for bigG, padded with 0: `(B, L)` each."""
        pieces: Tensor = self._tokenizer(list(captions)).to(self.bigg.positional_embedding.device)
        end = self._tokenizer.eot_token_id
        behind = (pieces == end).cumsum(1) > 0
        return torch.where(behind, end, pieces), pieces

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return hidden states `(B, L, T)` and bigG's pooled vector `(B, E)` of B captions."""
        for_clip_l, for_bigg = self.tokenize(captions)
        first, _ = _before_last_block(self.clip_l, for_clip_l)
        second, pooled = _before_last_block(self.bigg, for_bigg)
        return torch.cat([first, second], dim=-1), pooled


def _before_last_block(tower: Any, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last block's input `(B, L, E)` and the tower's output `(B, E)`."""
    seen: list[Tensor] = []
    hook = tower.transformer.resblocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        pooled = tower(pieces)
    finally:
        hook.remove()
    return seen[0], pooled
