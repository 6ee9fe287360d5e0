"""A bridge from the features of a frozen brain encoder to image tokens, as CortexDecoder publishes them.

Learned queries, one per image token, attend to each other and to the encoder's patches in the layers of a transformer
decoder (post-norm, ReLU), without a position of the patches: the features contain it.

Legend: B batch, P patches, F feature width, h hidden width, S tokens, D token width, Q queries that are asked.
"""

import torch
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import PositiveInt, ProperFraction


class TokenBridge(Recorded):
    """Cross-attention from learned queries to the features of an encoder's patches.

    Args:
        feature_dim: F; features of another width than h are mapped to it.
        num_tokens: S.
        token_dim: D.
        hidden_dim: h.
        layers: of the decoder.
        heads: of its attention; no weight's shape tells it.
        feed_forward_dim: width inside the decoder's feed-forward networks.
        dropout: probability inside the decoder, in training.
    """

    def __init__(
        self,
        feature_dim: PositiveInt = 768,
        num_tokens: PositiveInt = 256,
        token_dim: PositiveInt = 1664,
        *,
        hidden_dim: PositiveInt = 768,
        layers: PositiveInt = 4,
        heads: PositiveInt = 8,
        feed_forward_dim: PositiveInt = 3072,
        dropout: ProperFraction = 0.1,
    ):
        super().__init__()
        self.feature_dim, self.token_shape = feature_dim, (num_tokens, token_dim)
        self.queries = nn.Parameter(0.02 * torch.randn(num_tokens, hidden_dim))
        self.to_hidden = nn.Identity() if feature_dim == hidden_dim else nn.Linear(feature_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        layer = nn.TransformerDecoderLayer(hidden_dim, heads, feed_forward_dim, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.to_tokens = nn.Linear(hidden_dim, token_dim)

    def forward(self, features: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the image tokens of some features.

        Args:
            features: `(B, P, F)`, or flat `(B, P * F)`, of any number of patches.
            indices: `(Q,)` tokens that are asked for; None asks for all S at once. Queries attend to each other, so
                that a token depends on which others are asked for with it.

        Returns:
            `(B, S, D)`, or `(B, Q, D)`.

        Raises:
            UserError: for features of another width.
        """
        if features.ndim == 2 and features.shape[1] % self.feature_dim == 0:
            features = features.unflatten(1, (-1, self.feature_dim))
        if features.ndim != 3 or features.shape[2] != self.feature_dim or 0 in features.shape:
            wanted = f"(n, patches, {self.feature_dim}), or flat (n, patches * {self.feature_dim})"
            raise UserError("the features have another shape", got=tuple(features.shape), expected=wanted)
        queries = self.queries if indices is None else self.queries[indices]
        patches = self.norm(self.to_hidden(features))  # (B, P, h)
        return self.to_tokens(self.decoder(queries.expand(len(features), -1, -1), patches))
