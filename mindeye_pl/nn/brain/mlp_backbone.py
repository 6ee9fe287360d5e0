"""MindEye1's residual MLP, the first layers of its backbone and low-level model (MindEye1, spec sections 4.1 and 7.1).

Legend: B batch, h hidden width, S tokens, D token width.
"""

from torch import Tensor, nn

from mindeye_pl.nn.brain.backbone import TokenBackbone
from mindeye_pl.types import PositiveInt, ProperFraction


class ResidualMLP(nn.Module):
    """Norm, activation and dropout of the aligned voxels, then residual blocks of one layer each.

    The linear map before the first norm is the functional alignment. `stem_dropout` acts before the first block,
    `dropout` inside the blocks.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        bias: bool = True,
        activation: type[nn.Module] = nn.GELU,
        stem_dropout: ProperFraction = 0.5,
        dropout: ProperFraction = 0.15,
    ):
        super().__init__()
        self.stem = nn.Sequential(nn.LayerNorm(hidden_dim), activation(), nn.Dropout(stem_dropout))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden_dim, hidden_dim, bias=bias),
                nn.LayerNorm(hidden_dim),
                activation(),
                nn.Dropout(dropout),
            )
            for _ in range(num_blocks)
        )

    def forward(self, aligned: Tensor) -> Tensor:
        """Apply the stem and the residual blocks. Shape: `(B, h)` -> `(B, h)`."""
        hidden = self.stem(aligned)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden


class MLPBackbone(TokenBackbone):
    """MindEye1's backbone: a residual MLP with the common read-out (MindEye1, spec section 4.1).

    Args:
        hidden_dim: h.
        num_tokens: S; 257 as published, 1 for the class-token model.
        token_dim: D.
        num_blocks: residual blocks.
        stem_dropout: probability before the first block.
        dropout: probability inside the blocks.
        retrieval_dim: width of the retrieval head, which the paper calls projector.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        stem_dropout: ProperFraction = 0.5,
        dropout: ProperFraction = 0.15,
        retrieval_dim: PositiveInt = 2048,
    ):
        super().__init__()
        self.mlp = ResidualMLP(hidden_dim, num_blocks=num_blocks, stem_dropout=stem_dropout, dropout=dropout)
        self.add_read_out(hidden_dim, num_tokens, token_dim, retrieval_dim=retrieval_dim)

    def hidden(self, aligned: Tensor) -> Tensor:
        """Apply the residual MLP."""
        return self.mlp(aligned)
