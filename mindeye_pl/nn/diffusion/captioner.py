"""English captions from image tokens: a converter to CLIP ViT-L's features, then GIT (MindEye2, spec section 8).

Legend: B images, S tokens, D token width, F = 257 features of ViT-L, G = 1024 their width, L token ids of a caption.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import GitForCausalLM


class TokenConverter(nn.Module):
    """Two linear maps: over the tokens, then over the channels."""

    def __init__(self, num_tokens: int = 256, token_dim: int = 1664, num_features: int = 257, feature_dim: int = 1024):
        super().__init__()
        self.over_tokens = nn.Linear(num_tokens, num_features)
        self.over_channels = nn.Linear(token_dim, feature_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Convert tokens to features. Shape: `(B, S, D)` -> `(B, F, G)`."""
        mixed = self.over_tokens(tokens.transpose(1, 2)).transpose(1, 2)  # (B, F, D)
        return self.over_channels(mixed)


class _GivenFeatures(nn.Module):
    """Replacement of GIT's vision tower that returns given features, which have an extra axis as images do."""

    def forward(self, pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=pixel_values.squeeze(1))


class Captioner(nn.Module):
    """GIT, without its vision tower, on converted tokens instead of an image.

    `text` is the detokenizer, token ids `(B, L)` to B captions.
    """

    git: Any  # `generate` of transformers is not typed for its own models

    def __init__(
        self, converter: TokenConverter, git: "GitForCausalLM", text: Callable[[Tensor], list[str]] | None = None
    ):
        super().__init__()
        self.converter, self.git, self.text = converter, git, text
        self.git.git.image_encoder = _GivenFeatures()
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, tokens: Tensor, *, max_length: int = 20) -> Tensor:
        """Return the captions' token ids, decoded greedily, padded to L = `max_length` with the start token included.

        Shape: `(B, S, D)` -> `(B, L)` int64.
        """
        features = self.converter(tokens)  # (B, F, G)
        found = self.git.generate(pixel_values=features.unsqueeze(1), max_length=max_length, do_sample=False)
        return F.pad(found, (0, max_length - found.shape[1]), value=self.git.config.pad_token_id)

    def loss(self, tokens: Tensor, words: Tensor) -> Tensor:
        """Return the mean cross-entropy of the next token ids, for image tokens `(B, S, D)` and padded ids `(B, L)`."""
        pad = self.git.config.pad_token_id
        features = self.converter(tokens).unsqueeze(1)  # (B, 1, F, G)
        logits = self.git(input_ids=words, attention_mask=(words != pad).long(), pixel_values=features).logits
        logits = logits[:, -words.shape[1] : -1]  # (B, L - 1, vocabulary), after the features
        return F.cross_entropy(logits.flatten(0, 1).float(), words[:, 1:].flatten(), ignore_index=pad)


def plain_text(vocabulary: Sequence[str], marks: Sequence[str]) -> Callable[[Tensor], list[str]]:
    """Return a detokenizer, token ids `(B, L)` to sentences, for a vocabulary of whole words; it omits `marks`."""

    def text(numbers: Tensor) -> list[str]:
        rows = [[word for number in row if (word := vocabulary[number]) not in marks] for row in numbers.tolist()]
        return [" ".join(row).replace(" ,", ",").replace(" .", ".").capitalize() for row in rows]

    return text
