"""Modules that belong to single subjects: linear maps from voxels, and voxel counts.

Legend: B batch, V voxels of one subject, h hidden width.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import PositiveInt


class PerSubject(nn.Module):
    """Marker of modules whose parameters and buffers belong to single subjects; a new subject does not inherit them."""


class AlignmentNetwork(Recorded):
    """Base of networks that bring each subject's voxels into the shared space.

    Parameters and buffers of single subjects are in modules that derive from `PerSubject`.
    """

    @abstractmethod
    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """Map one subject's voxels to the shared space. Shape: `(B, V)` -> `(B, h)`."""

    @abstractmethod
    def voxel_weights(self, subject_index: int) -> Tensor | None:
        """Return the weights `(h, V)` of the map from one subject's voxels; None if the map is not linear."""


class PerSubjectLinear(PerSubject, AlignmentNetwork):
    """One linear map per subject, without an activation; `linears[i]` reads subject i (MindEye2, spec section 2).

    Args:
        voxel_counts: V of each subject, in the order of the subject indices.
        hidden_dim: h.
        bias: adds a bias to each map.
    """

    def __init__(self, voxel_counts: Sequence[PositiveInt], hidden_dim: PositiveInt, *, bias: bool = True):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(count, hidden_dim, bias=bias) for count in voxel_counts)

    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """Map one subject's voxels to the shared space. Shape: `(B, V)` -> `(B, h)`."""
        return self.linears[subject_index](voxels)

    def voxel_weights(self, subject_index: int) -> Tensor:
        """Return the subject's weights `(h, V)`."""
        return self.linears[subject_index].get_parameter("weight").detach()


class VoxelCounts(PerSubject):
    """The subjects' voxel counts, stored with the weights because no weight's shape gives them."""

    counts: Tensor  # (subjects,) int64

    def __init__(self, voxel_counts: Sequence[PositiveInt]):
        super().__init__()
        self.register_buffer("counts", torch.tensor(list(voxel_counts)))
