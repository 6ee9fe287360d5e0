"""Backbones: blocks on the aligned voxels, one linear map to the tokens, and the retrieval head.

Legend: B batch, h hidden width, S tokens, D token width, R width of the retrieval head.
"""

from abc import abstractmethod

from torch import Tensor, nn

from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import PositiveInt, ProperFraction, PublishedOrCorrected


class TokenBackbone(Recorded):
    """Base of backbones: blocks make a hidden vector, which is read out as tokens and a retrieval embedding.

    A subclass builds its blocks, calls `add_read_out` and implements `hidden`.
    """

    token_shape: tuple[int, int]

    def add_read_out(self, hidden_dim: int, num_tokens: int, token_dim: int, *, retrieval_dim: int) -> None:
        """Build the map to the tokens and the retrieval head. Call it after the blocks are built."""
        self.token_shape = (num_tokens, token_dim)
        self.to_tokens = nn.Linear(hidden_dim, num_tokens * token_dim)
        self.retrieval_head = nn.Sequential(
            *(nn.LayerNorm(token_dim), nn.GELU(), nn.Linear(token_dim, retrieval_dim)),
            *(nn.LayerNorm(retrieval_dim), nn.GELU(), nn.Linear(retrieval_dim, retrieval_dim)),
            *(nn.LayerNorm(retrieval_dim), nn.GELU(), nn.Linear(retrieval_dim, token_dim)),
        )

    @abstractmethod
    def hidden(self, aligned: Tensor) -> Tensor:
        """Apply the blocks to the aligned voxels. Shape: `(B, h)` -> `(B, h)`."""

    def forward(self, aligned: Tensor) -> tuple[Tensor, Tensor]:
        """Return backbone tokens and retrieval embedding. Shape: `(B, h)` -> `(B, S, D)`, `(B, S, D)`."""
        return self.read_out(self.hidden(aligned))

    def read_out(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return backbone tokens and retrieval embedding of the blocks' output. Shapes as of `forward`."""
        tokens = self.to_tokens(hidden).unflatten(-1, self.token_shape)  # (B, S, D)
        return tokens, self.retrieval_head(tokens)


class MixerBackbone(TokenBackbone):
    """MindEye2's backbone of mixer blocks (spec section 3).

    Args:
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_blocks: pairs of mixer blocks.
        dropout: probability inside the blocks.
        mixer: connection of the two blocks of a pair. `published` keeps two separate residual chains: the second
            block's layer norm acts on a dimension of size 1, so its output is a learned constant, and the first blocks
            have no effect; their weights are kept for the state dict, but not computed. `corrected` adds the second
            block to the first one's output, so that both work.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        dropout: ProperFraction = 0.15,
        mixer: PublishedOrCorrected = "published",
    ):
        super().__init__()
        self.mixer = mixer
        self.channel_blocks = nn.ModuleList(_mixer_block(hidden_dim, dropout) for _ in range(num_blocks))
        self.sequence_blocks = nn.ModuleList(_mixer_block(1, dropout) for _ in range(num_blocks))
        self.add_read_out(hidden_dim, num_tokens, token_dim, retrieval_dim=token_dim)

    def hidden(self, aligned: Tensor) -> Tensor:
        """Apply the mixer blocks."""
        if self.mixer == "published":
            # Each second block adds its own output to the previous second block's; the first one starts from `aligned`.
            for block in self.sequence_blocks:
                aligned = aligned + block(aligned.unsqueeze(-1)).squeeze(-1)
            return aligned
        for channel_block, sequence_block in zip(self.channel_blocks, self.sequence_blocks, strict=True):
            aligned = aligned + channel_block(aligned)
            aligned = aligned + sequence_block(aligned.unsqueeze(-1)).squeeze(-1)
        return aligned


def _mixer_block(width: int, dropout: float) -> nn.Sequential:
    layers = nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
    return nn.Sequential(*layers)


class ResidualMLP(nn.Module):
    """Norm, activation and dropout of the aligned voxels, then residual blocks of one layer each.

    These are the first layers of MindEye1's backbone and low-level model (MindEye1, spec sections 4.1 and 7.1); the
    linear map before the first norm is the functional alignment. `stem_dropout` acts before the first block,
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

        def block() -> nn.Sequential:
            linear = nn.Linear(hidden_dim, hidden_dim, bias=bias)
            return nn.Sequential(linear, nn.LayerNorm(hidden_dim), activation(), nn.Dropout(dropout))

        self.blocks = nn.ModuleList(block() for _ in range(num_blocks))

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
