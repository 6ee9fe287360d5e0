"""Backbone on cluster tokens: a transformer between functional clusters, and the common read-out.

Source: Brain-IT (arXiv:2510.25976), whose read-out differs: it has one learned query per output token.

Legend: B batch, C clusters, d width of a cluster's token, h hidden width, S tokens, D token width.
"""

import torch
from torch import Tensor, nn

from mindeye_pl.nn.brain.backbone import TokenBackbone
from mindeye_pl.types import PositiveInt, ProperFraction


class ClusterBackbone(TokenBackbone):
    """Transformer over cluster tokens. All layers are shared by all clusters, which differ by a learned vector.

    Args:
        num_clusters: C.
        cluster_dim: d; the aligned voxels are C d wide.
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_layers: layers of the transformer.
        heads: of its attention, a divisor of d.
        dropout: probability inside the layers.
    """

    def __init__(
        self,
        num_clusters: PositiveInt,
        cluster_dim: PositiveInt,
        hidden_dim: PositiveInt,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        num_layers: PositiveInt = 5,
        heads: PositiveInt = 8,
        dropout: ProperFraction = 0.0,
    ):
        super().__init__()
        self.cluster_shape = (num_clusters, cluster_dim)
        self.to_values = nn.Linear(cluster_dim, cluster_dim)
        self.identities = nn.Parameter(torch.randn(num_clusters, cluster_dim) * 0.02)
        self.norm = nn.LayerNorm(cluster_dim)
        layer = nn.TransformerEncoderLayer(
            cluster_dim, heads, 4 * cluster_dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(
            layer, num_layers, norm=nn.LayerNorm(cluster_dim), enable_nested_tensor=False
        )
        self.to_hidden = nn.Linear(num_clusters * cluster_dim, hidden_dim)
        self.add_read_out(hidden_dim, num_tokens, token_dim, retrieval_dim=token_dim)

    def hidden(self, aligned: Tensor) -> Tensor:
        """Apply the transformer to the cluster tokens. Shape: `(B, C d)` -> `(B, h)`."""
        pooled = aligned.unflatten(-1, self.cluster_shape)  # (B, C, d)
        tokens = self.norm((self.to_values(pooled) + self.identities).relu())
        return self.to_hidden(self.transformer(tokens).flatten(1))
