"""Mind Reader's mapper: a 1-D convolutional network from voxels to a CLIP embedding (Mind Reader, spec section 4).

It convolves along the voxels in the order in which the mask lists them, so neighbours in it are not always neighbours
in the brain. There is no batch norm.

Legend: B batch, V voxels of one subject, P padded voxels, L positions behind the stems (P / 2 each), C channels,
D embedding width, h hidden width of the read-out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.types import NonNegativeInt, PositiveInt


def pad_voxels(voxels: Tensor, size: int) -> Tensor:
    """Zeros on both sides, the smaller half of them on the left: subject 1's 15,724 voxels get 10 and 10.

    Shape:
        `(..., V)` -> `(..., size)`; V must not be larger.
    """
    missing = size - voxels.shape[-1]
    assert missing >= 0, f"{voxels.shape[-1]} voxels do not go into {size}"
    return F.pad(voxels, (missing // 2, missing - missing // 2))


class _Block(nn.Module):
    """Three convolutions and a skip around them. `(B, C, L)` -> `(B, C, L)`."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return (features + self.net(features)).relu()


class VoxelCNN(nn.Module):
    """Voxels to an embedding by convolutions, and one MLP over the positions that all embedding dimensions share.

    Convolutions do not ask how many voxels there are; the first map over the positions does, and each subject has its
    own. At the published size, one subject's 15,744 voxels to 512 dimensions, there are 1,156,929 parameters.

    Args:
        padded_voxels: P of each subject, or of the only one; multiples of two for each stem.
        embedding_dim: D.
        channels: C.
        num_stems: convolutions of stride two in front; 1 for CLIP embeddings, 2 for the map of a ResNet.
        num_blocks: residual blocks.
        hidden_dim: h.
        sigmoid: whether the embedding is brought into (0, 1), for targets that lie there; CLIP's do not.
    """

    def __init__(
        self,
        padded_voxels: PositiveInt | Sequence[PositiveInt] = 15_744,
        embedding_dim: PositiveInt = 512,
        *,
        channels: PositiveInt = 64,
        num_stems: NonNegativeInt = 1,
        num_blocks: NonNegativeInt = 4,
        hidden_dim: PositiveInt = 128,
        sigmoid: bool = False,
    ):
        super().__init__()
        self.padded_voxels = (padded_voxels,) if isinstance(padded_voxels, int) else tuple(padded_voxels)
        for padded in self.padded_voxels:
            assert padded % 2**num_stems == 0, f"{padded} voxels, halved {num_stems} times"
        self.sigmoid = sigmoid
        widths = (1, *[channels] * num_stems)
        self.stems = nn.ModuleList(nn.Conv1d(width, channels, 4, stride=2, padding=1) for width in widths[:num_stems])
        self.blocks = nn.Sequential(*[_Block(channels) for _ in range(num_blocks)])
        self.to_dimensions = nn.Conv1d(channels, embedding_dim, 1)
        self.over_positions = PerSubjectLinear([padded // 2**num_stems for padded in self.padded_voxels], hidden_dim)
        self.read_out = nn.Linear(hidden_dim, 1)

    def forward(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """The embedding, as it is: neither clamped nor normalised.

        Shape:
            `(B, V)` of one subject, with V at most its P -> `(B, D)`.
        """
        features = pad_voxels(voxels, self.padded_voxels[subject_index])[:, None]  # (B, 1, P)
        for stem in self.stems:
            features = stem(features).relu()
        features = self.to_dimensions(self.blocks(features)).relu_()  # (B, D, L), the largest by far
        embedding = self.read_out(self.over_positions(features, subject_index).relu())[..., 0]
        return embedding.sigmoid() if self.sigmoid else embedding

    @torch.no_grad()
    def predict(self, voxels: Tensor, *, batch_size: int = 100) -> Tensor:
        """As `forward`, of the first subject, without a gradient and for any number of samples.

        Args:
            voxels: `(N, V)` with V at most P.
            batch_size: samples at once; at the published size each takes some 20 MB.

        Returns:
            `(N, D)`.
        """
        return torch.cat([self(batch) for batch in voxels.split(batch_size)])
