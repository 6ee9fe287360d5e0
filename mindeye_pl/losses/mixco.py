"""MixCo: voxels of some samples are mixed with another sample's of the same subject (MindEye2, spec section 6.1).

Legend: B batch, b one subject's share of it, V voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from mindeye_pl.types import PublishedOrCorrected

#: Both parameters of the Beta distribution of the own share.
BETA = 0.15


@dataclass(frozen=True)
class MixCo:
    """How the voxels of a batch are mixed.

    Attributes:
        partner: `(B,)` int64, the row inside the subject's own share that each sample is mixed with.
        share: `(B,)` float32, the weight of the sample itself; 1 where nothing is mixed in.
        sizes: b of each subject.
        permutation: `published` credits a partner's share to the row that `partner` names in the whole batch, which for
            every subject but the first is another subject's image; `corrected` adds the subject's offset.
        diagonal: `published` writes the partner's share over the sample's own where a sample is its own partner, so an
            unmixed one gets a target of 0; `corrected` adds it.
    """

    partner: Tensor
    share: Tensor
    sizes: tuple[int, ...]
    permutation: PublishedOrCorrected = "published"
    diagonal: PublishedOrCorrected = "published"

    def targets(self) -> Tensor:
        """`(B, B)` float32: row i holds what sample i is made of."""
        rows = torch.arange(len(self.share), device=self.share.device)
        targets = torch.diag(self.share)
        columns, rest = self._columns(), 1 - self.share
        if self.diagonal == "published":
            targets[rows, columns] = rest
        else:
            targets[rows, columns] += rest
        return targets

    def _columns(self) -> Tensor:
        if self.permutation == "published":
            return self.partner
        starts = torch.tensor((0, *self.sizes[:-1]), device=self.partner.device).cumsum(0)
        return self.partner + starts.repeat_interleave(torch.tensor(self.sizes, device=self.partner.device))


def draw_mixco(
    sizes: Sequence[int],
    *,
    permutation: PublishedOrCorrected = "published",
    diagonal: PublishedOrCorrected = "published",
) -> MixCo:
    """Draws partners and shares with PyTorch's global generator.

    Each sample is mixed with probability one half, its own share following Beta(0.15, 0.15); partners are a permutation
    within each subject's share of the batch.

    Args:
        sizes: b of each subject.
        permutation: see `MixCo`.
        diagonal: see `MixCo`.
    """
    assert permutation in get_args(PublishedOrCorrected), permutation
    assert diagonal in get_args(PublishedOrCorrected), diagonal
    total = sum(sizes)
    partner = torch.cat([torch.randperm(size) for size in sizes])
    share = torch.distributions.Beta(BETA, BETA).sample((total,))
    share = torch.where(torch.rand(total) <= 0.5, share, torch.ones(()))
    return MixCo(partner, share, tuple(sizes), permutation, diagonal)


def mix_voxels(voxels: Sequence[Tensor], mixing: MixCo) -> list[Tensor]:
    """Mixes each subject's voxels, `(b, V_s)` to `(b, V_s)`."""
    mixed = []
    for own, partner, share in zip(
        voxels, mixing.partner.split(mixing.sizes), mixing.share.split(mixing.sizes), strict=True
    ):
        weight = share.to(own)[:, None]
        mixed.append(weight * own + (1 - weight) * own[partner.to(own.device)])
    return mixed
