"""The low-level stage: what a blurry reconstruction is made from.

Legend: B batch, h hidden width.
"""

from torch import Tensor

from mindeye_pl.nn.low_level import LowLevelHead
from mindeye_pl.stages.stage import Stage


class LowLevel(Stage):
    """Latents and auxiliary maps from the backbone's hidden vector (MindEye2, spec section 3).

    Args:
        hidden_dim: h.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: LowLevelHead

    def __init__(self, hidden_dim: int, *, weight_decay: float = 1e-2, gain_decay: str = "published"):
        super().__init__(LowLevelHead(hidden_dim), weight_decay=weight_decay, gain_decay=gain_decay)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, h)` to latents `(B, 4, 28, 28)` and maps `(B, 49, 512)`."""
        return self.network(hidden)
