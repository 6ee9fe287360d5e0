"""Functional alignment: each subject's voxels into the shared space.

Legend: B batch, V voxels of one subject, h hidden width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.types import NonNegativeFloat, PositiveInt, PublishedOrCorrected


class FunctionalAlignment(Part):
    """One linear map for each subject, kept small by weight decay (spec of MindEye2, section 2).

    Args:
        voxel_counts: V of each subject, in the order of the subject indices.
        hidden_dim: h.
        weight_decay: of the weights and, where `bias_decay` says so, of the biases too.
        gain_decay: `published` | `corrected`.
        bias_decay: whether `published` decays the biases, as MindEye2's optimiser does and MindEye1's does not.
    """

    network: PerSubjectLinear

    def __init__(
        self,
        voxel_counts: Sequence[PositiveInt],
        hidden_dim: PositiveInt,
        *,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        bias_decay: bool = True,
    ):
        super().__init__(PerSubjectLinear(voxel_counts, hidden_dim), weight_decay=weight_decay, gain_decay=gain_decay)
        self.bias_decay = bias_decay

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """MindEye2's published optimiser decays the biases of this part, and of this part alone."""
        return (self.gain_decay == "published" and self.bias_decay) or super().decays(name, parameter)

    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """`(B, V)` voxels of one subject to `(B, h)`."""
        return self.network(voxels, subject_index)
