"""Embeddings of sentences, compared by cosine similarity (MindEye2, spec section 10).

Legend: N sentences, B batch, L token ids of its longest sentence, D width of a token, E width of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextEmbedder(nn.Module):
    """Base of text embedders, frozen and in eval mode.

    Sentences are batched by length; batch and padding do not change an embedding.

    Args:
        tower: network of transformers.
        tokenizer: sentences to token ids with special tokens; its own padding and truncation are replaced.
        max_length: maximal L, special tokens included; longer sentences are truncated.
        batch_size: B.
        logit_scale: CLIP's factor on cosines when captions are compared; 100 in all OpenAI models.
    """

    tower: Any  # forward of transformers' models is not typed

    def __init__(
        self,
        tower: nn.Module,
        tokenizer: "Tokenizer",
        *,
        max_length: int,
        batch_size: int = 64,
        logit_scale: float = 100.0,
    ):
        super().__init__()
        self.tower, self.tokenizer, self.batch_size, self.logit_scale = tower, tokenizer, batch_size, logit_scale
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """Embed N sentences as `(N, E)` float32."""
        pieces = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        order = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))
        parts = []
        for start in range(0, len(order), self.batch_size):
            rows = [torch.tensor(pieces[index]) for index in order[start : start + self.batch_size]]
            ids = pad_sequence(rows, batch_first=True)  # (B, L); padding is masked out, so that any id works
            kept = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            with torch.autocast(self.device.type, enabled=False):  # cosines are close to 1
                parts.append(self._embed(ids.to(self.device), kept.to(self.device)))
        return torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.tower.parameters()).device

    def _embed(self, ids: Tensor, kept: Tensor) -> Tensor:
        """Embed token ids `(B, L)` int64 with the attention mask `(B, L)` int64 as `(B, E)`."""
        raise NotImplementedError


class SentenceEmbedder(TextEmbedder):
    """Sentence-BERT: the L2-normalised mean of the last hidden states of all-MiniLM-L6-v2, without its pooler."""

    def _embed(self, ids: Tensor, kept: Tensor) -> Tensor:
        states = self.tower(input_ids=ids, attention_mask=kept).last_hidden_state  # (B, L, D)
        weights = kept[..., None].to(states.dtype)  # (B, L, 1)
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)  # E is D


class CLIPTextEmbedder(TextEmbedder):
    """CLIP's projected text embedding, not normalised."""

    def _embed(self, ids: Tensor, kept: Tensor) -> Tensor:
        return self.tower(input_ids=ids, attention_mask=kept).text_embeds


class OpenCLIPTextEmbedder(nn.Module):
    """Text embedding of an open_clip model, for example the laptop's, which is set to eval mode; not normalised.

    `tokenize_captions` maps n sentences to padded token ids `(n, L)` int64.
    """

    network: Any  # open_clip types no calls

    def __init__(self, network: nn.Module, tokenize_captions: Callable[[Sequence[str]], Tensor], batch_size: int = 64):
        super().__init__()
        self.network, self.tokenize_captions, self.batch_size = network, tokenize_captions, batch_size
        self.requires_grad_(False).eval()

    @property
    def logit_scale(self) -> float:
        """CLIP's factor on cosines when captions are compared."""
        return float(self.network.logit_scale.exp())

    @torch.no_grad()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """Embed N sentences as `(N, E)`."""
        numbers = self.tokenize_captions(sentences).to(next(self.network.parameters()).device)  # (N, L)
        with torch.autocast(numbers.device.type, enabled=False):
            return torch.cat([self.network.encode_text(part) for part in numbers.split(self.batch_size)])
