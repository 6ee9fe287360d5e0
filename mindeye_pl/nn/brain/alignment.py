"""What is each subject's own: one linear map, and how many voxels there are.

Legend: B batch, V voxels of one subject, h hidden width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mindeye_pl.types import PositiveInt


class PerSubjectLinear(nn.Module):
    """`linears[i]` maps subject i's voxels to the shared space, without an activation.

    Args:
        voxel_counts: V of each subject.
        hidden_dim: h.
        bias: whether the maps have one.
    """

    def __init__(self, voxel_counts: Sequence[PositiveInt], hidden_dim: PositiveInt, *, bias: bool = True):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(count, hidden_dim, bias=bias) for count in voxel_counts)

    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """Shape: `(B, V)` -> `(B, h)`."""
        return self.linears[subject_index](voxels)


class VoxelCounts(nn.Module):
    """How many voxels each subject has, kept with the weights where the shape of no weight tells.

    Attributes:
        counts: `(subjects,)` int64.

    Args:
        voxel_counts: V of each subject.
    """

    counts: Tensor

    def __init__(self, voxel_counts: Sequence[PositiveInt]):
        super().__init__()
        self.register_buffer("counts", torch.tensor(list(voxel_counts)))
