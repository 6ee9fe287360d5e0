"""Sentences to embeddings whose cosine says how alike they are (MindEye2, spec section 10).

Legend: N sentences, B of them at once, L word pieces of the longest of them, D width of a word, E of an embedding.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel, CLIPTextModelWithProjection

#: Padding is masked out, so that any word's number will do.
_PAD = 0


class TextEmbedder(nn.Module):
    """Reads sentences in batches of like length; neither the batch nor its padding changes an embedding.

    The module is frozen and in eval mode.

    Args:
        tower: the network, of transformers.
        tokenizer: sentences to word pieces with their marks; its own padding and cut are replaced.
        max_length: L at most, marks included; what is longer is cut.
        batch_size: B.
    """

    tower: Any  # forward of transformers' models is not typed

    def __init__(self, tower: nn.Module, tokenizer: "Tokenizer", *, max_length: int, batch_size: int = 64):
        super().__init__()
        self.tower, self.tokenizer, self.batch_size = tower, tokenizer, batch_size
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """N sentences to `(N, E)` float32."""
        pieces = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        order = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))
        parts = []
        for start in range(0, len(order), self.batch_size):
            numbers, kept = _padded([pieces[index] for index in order[start : start + self.batch_size]])
            with torch.autocast(self.device.type, enabled=False):  # cosines crowd near 1
                parts.append(self._embed(numbers.to(self.device), kept.to(self.device)))
        return torch.cat(parts)[torch.tensor(order, device=self.device).argsort()]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.tower.parameters()).device

    def _embed(self, numbers: Tensor, kept: Tensor) -> Tensor:
        """Word pieces `(B, L)` int64, and 1 for each that is no padding, to `(B, E)`."""
        raise NotImplementedError


class SentenceEmbedder(TextEmbedder):
    """Sentence-BERT: the mean of the last hidden states, scaled to length 1.

    Args:
        tower: all-MiniLM-L6-v2, without its pooler.
        tokenizer: see `TextEmbedder`.
        max_length: see there.
        batch_size: see there.
    """

    def __init__(self, tower: "BertModel", tokenizer: "Tokenizer", *, max_length: int = 256, batch_size: int = 64):
        super().__init__(tower, tokenizer, max_length=max_length, batch_size=batch_size)

    def _embed(self, numbers: Tensor, kept: Tensor) -> Tensor:
        states = self.tower(input_ids=numbers, attention_mask=kept).last_hidden_state  # (B, L, D)
        weights = kept[..., None].to(states.dtype)  # (B, L, 1)
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)  # E is D


class CLIPTextEmbedder(TextEmbedder):
    """CLIP's projected text embedding, not normalised.

    Args:
        tower: the text tower with its projection.
        tokenizer: see `TextEmbedder`.
        max_length: see there.
        batch_size: see there.
        logit_scale: that CLIP multiplies a cosine by to compare captions; OpenAI's were all trained up to 100.
    """

    def __init__(
        self,
        tower: "CLIPTextModelWithProjection",
        tokenizer: "Tokenizer",
        *,
        max_length: int = 77,
        batch_size: int = 64,
        logit_scale: float = 100.0,
    ):
        super().__init__(tower, tokenizer, max_length=max_length, batch_size=batch_size)
        self.logit_scale = logit_scale

    def _embed(self, numbers: Tensor, kept: Tensor) -> Tensor:
        return self.tower(input_ids=numbers, attention_mask=kept).text_embeds


class OpenCLIPTextEmbedder(nn.Module):
    """The text side of a whole open_clip model, the laptop's for instance; not normalised.

    Args:
        network: with `encode_text`, word numbers `(B, L)` to `(B, E)`; it is put in eval mode.
        tokenize_captions: n sentences to `(n, L)` int64, padded.
        batch_size: B.
    """

    network: Any  # open_clip types no calls

    def __init__(
        self, network: nn.Module, tokenize_captions: Callable[[Sequence[str]], Tensor], *, batch_size: int = 64
    ):
        super().__init__()
        self.network, self.tokenize_captions, self.batch_size = network, tokenize_captions, batch_size
        self.requires_grad_(False).eval()

    @property
    def logit_scale(self) -> float:
        """What CLIP multiplies a cosine by to compare captions."""
        return float(self.network.logit_scale.exp())

    @torch.no_grad()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """N sentences to `(N, E)`."""
        numbers = self.tokenize_captions(sentences).to(next(self.network.parameters()).device)  # (N, L)
        with torch.autocast(numbers.device.type, enabled=False):
            return torch.cat([self.network.encode_text(part) for part in numbers.split(self.batch_size)])


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of unlike length as one `(B, L)` int64, and 1 where it is no padding."""
    numbers = torch.full((len(rows), max(len(row) for row in rows)), _PAD)
    kept = torch.zeros_like(numbers)
    for index, row in enumerate(rows):
        numbers[index, : len(row)] = torch.tensor(row)
        kept[index, : len(row)] = 1
    return numbers, kept
