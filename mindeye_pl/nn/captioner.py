"""Image tokens to an English caption: a converter to CLIP ViT-L's features, then GIT (MindEye2, spec section 8).

Legend: B pictures, S tokens, D token width, F = 257 features of ViT-L, G = 1024 their width, L words of a caption.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import GitForCausalLM


class TokenConverter(nn.Module):
    """Two linear maps: over the tokens, then over their channels.

    Args:
        num_tokens: S.
        token_dim: D.
        num_features: F.
        feature_dim: G.
    """

    def __init__(
        self, num_tokens: int = 256, token_dim: int = 1664, *, num_features: int = 257, feature_dim: int = 1024
    ):
        super().__init__()
        self.over_tokens = nn.Linear(num_tokens, num_features)
        self.over_channels = nn.Linear(token_dim, feature_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape: `(B, S, D)` -> `(B, F, G)`."""
        mixed = self.over_tokens(tokens.transpose(1, 2)).transpose(1, 2)  # (B, F, D)
        return self.over_channels(mixed)


class _GivenFeatures(nn.Module):
    """Stands where GIT's vision tower was: features come ready, under an axis that makes them look like pictures."""

    def forward(self, pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=pixel_values.squeeze(1))


class Captioner(nn.Module):
    """GIT reading converted tokens in place of a picture.

    Args:
        converter: to the features that GIT's own vision tower would give.
        git: the caption model of transformers; its vision tower is taken out.
    """

    git: Any  # `generate` of transformers is not typed for its own models

    def __init__(self, converter: TokenConverter, git: "GitForCausalLM"):
        super().__init__()
        self.converter, self.git = converter, git
        self.git.git.image_encoder = _GivenFeatures()
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, tokens: Tensor, *, max_length: int = 20) -> Tensor:
        """Word numbers of the captions, greedily chosen.

        Args:
            tokens: `(B, S, D)`.
            max_length: of a caption, its first mark included.

        Returns:
            `(B, L)` int64; the tokenizer of the checkpoint turns them into words.
        """
        features = self.converter(tokens)  # (B, F, G)
        return self.git.generate(pixel_values=features.unsqueeze(1), max_length=max_length, do_sample=False)
