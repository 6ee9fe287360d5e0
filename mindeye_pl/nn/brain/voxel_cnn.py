"""Mind Reader's mapper: a 1-D convolutional network from voxels to a CLIP embedding (Mind Reader, spec section 4).

It convolves along the voxels in the order of the mask, so that neighbouring positions are not always neighbours in the
brain. There is no batch norm.

Legend: B batch, V voxels of one subject, P padded voxels, L positions after the stems (each halves P), C channels,
D embedding width, h hidden width of the read-out.
"""

from collections.abc import Sequence
from math import ceil, lcm

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import NonNegativeInt, PositiveInt


def pad_voxels(voxels: Tensor, size: int) -> Tensor:
    """Pad `(..., V)` to `(..., size)` with zeros on both sides, the smaller half on the left."""
    missing = size - voxels.shape[-1]
    assert missing >= 0, f"{voxels.shape[-1]} voxels do not go into {size}"
    return F.pad(voxels, (missing // 2, missing - missing // 2))


class _Block(nn.Module):
    """Three convolutions with a skip connection. Shape: `(B, C, L)` -> `(B, C, L)`."""

    def __init__(self, channels: int):
        super().__init__()
        first, second = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv1d(channels, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        return (features + self.net(features)).relu()


class VoxelCNN(Recorded):
    """Convolutions along the voxels, then one MLP over the positions for all embedding dimensions.

    The convolutions are independent of the voxel count. The first map over the positions is not, so that each subject
    has its own. At the published size, one subject's 15,744 voxels to 512 dimensions, it has 1,156,929 parameters.

    Args:
        voxel_counts: V of each subject, in the order of the subject indices; a number for one subject.
        embedding_dim: D.
        padded_voxels: P of each subject, or of all; None takes the smallest that the stems and `pad_multiple` allow.
        pad_multiple: divisor of P; 32 brings subject 1's 15,724 voxels to the published 15,744.
        channels: C.
        num_stems: convolutions of stride two at the start; 1 for CLIP embeddings, 2 for a ResNet's map.
        num_blocks: residual blocks.
        hidden_dim: h.
        sigmoid: maps the embedding into (0, 1), for targets in that range; CLIP's are not.

    Raises:
        UserError: for padded voxels that are fewer than a subject's, or that the stems cannot halve.
    """

    def __init__(
        self,
        voxel_counts: PositiveInt | Sequence[PositiveInt] = 15_744,
        embedding_dim: PositiveInt = 512,
        *,
        padded_voxels: PositiveInt | Sequence[PositiveInt] | None = None,
        pad_multiple: PositiveInt = 1,
        channels: PositiveInt = 64,
        num_stems: NonNegativeInt = 1,
        num_blocks: NonNegativeInt = 4,
        hidden_dim: PositiveInt = 128,
        sigmoid: bool = False,
    ):
        super().__init__()
        self.voxel_counts = (voxel_counts,) if isinstance(voxel_counts, int) else tuple(voxel_counts)
        self.padded_voxels = _padded(self.voxel_counts, padded_voxels, 2**num_stems, pad_multiple)
        self.sigmoid = sigmoid
        widths = (1, *[channels] * num_stems)
        self.stems = nn.ModuleList(nn.Conv1d(width, channels, 4, stride=2, padding=1) for width in widths[:num_stems])
        self.blocks = nn.Sequential(*[_Block(channels) for _ in range(num_blocks)])
        self.to_dimensions = nn.Conv1d(channels, embedding_dim, 1)
        self.over_positions = PerSubjectLinear([padded // 2**num_stems for padded in self.padded_voxels], hidden_dim)
        self.read_out = nn.Linear(hidden_dim, 1)

    def forward(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """Return the embedding, neither clamped nor normalised. Shape: `(B, V)` of one subject -> `(B, D)`."""
        features = pad_voxels(voxels, self.padded_voxels[subject_index])[:, None]  # (B, 1, P)
        for stem in self.stems:
            features = stem(features).relu()
        features = self.to_dimensions(self.blocks(features)).relu_()  # (B, D, L), the largest by far
        embedding = self.read_out(self.over_positions(features, subject_index).relu())[..., 0]
        return embedding.sigmoid() if self.sigmoid else embedding

    @torch.no_grad()
    def predict(self, voxels: Tensor, *, batch_size: int = 100) -> Tensor:
        """Return the embeddings of the first subject's samples, without a gradient. Shape: `(N, V)` -> `(N, D)`.

        At the published size a forward pass takes about 20 MB per sample.
        """
        return torch.cat([self(batch) for batch in voxels.split(batch_size)])


def _padded(
    voxel_counts: Sequence[int], padded_voxels: int | Sequence[int] | None, stride: int, pad_multiple: int
) -> tuple[int, ...]:
    """Return P of each subject; `stride` is that of all stems together."""
    if padded_voxels is None:
        unit = lcm(stride, pad_multiple)
        return tuple(unit * ceil(count / unit) for count in voxel_counts)
    padded = (padded_voxels,) * len(voxel_counts) if isinstance(padded_voxels, int) else tuple(padded_voxels)
    if len(padded) != len(voxel_counts):
        expected = f"{len(voxel_counts)} numbers"
        raise UserError("padded_voxels needs one number per subject", got=list(padded), expected=expected)
    for count, size in zip(voxel_counts, padded, strict=True):
        if size < count or size % stride:
            expected, fix = f"a multiple of {stride}, at least {count}", "padded_voxels=null"
            raise UserError("padded_voxels does not fit the voxels", got=size, expected=expected, fix=fix)
    return padded
