"""MixCo: mix the voxels of some samples with those of another sample of the same subject (MindEye2, spec section 6.1).

Legend: B batch, b one subject's sub-batch, V voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindeye_pl.types import PublishedOrCorrected

#: Both parameters of the Beta distribution of a sample's own weight.
BETA = 0.15


@dataclass(frozen=True)
class MixCo:
    """Mixing of the voxels of a batch.

    Attributes:
        partner: `(B,)` int64, index within the subject's sub-batch of the sample that each sample is mixed with.
        weight: `(B,)` float32, weight of the sample itself; 1 if it is not mixed.
        sizes: b of each subject.
        permutation: `published` uses `partner` as an index into the whole batch in the targets, which for every subject
            but the first is another subject's image; `corrected` adds the subject's offset.
        diagonal: if a sample is its own partner, `published` overwrites its own weight by the partner's weight, so an
            unmixed sample has a target of 0; `corrected` adds the two.
    """

    partner: Tensor
    weight: Tensor
    sizes: tuple[int, ...]
    permutation: PublishedOrCorrected = "published"
    diagonal: PublishedOrCorrected = "published"

    def targets(self) -> Tensor:
        """Return the weights `(B, B)` float32 of the images (columns) in each sample (rows)."""
        rows = torch.arange(len(self.weight), device=self.weight.device)
        columns = self.partner
        if self.permutation == "corrected":
            starts = torch.tensor((0, *self.sizes[:-1]), device=columns.device).cumsum(0)
            columns = columns + starts.repeat_interleave(torch.tensor(self.sizes, device=columns.device))
        targets, rest = torch.diag(self.weight), 1 - self.weight
        if self.diagonal == "published":
            targets[rows, columns] = rest
        else:
            targets[rows, columns] += rest
        return targets


def draw_mixco(
    sizes: Sequence[int],
    *,
    permutation: PublishedOrCorrected = "published",
    diagonal: PublishedOrCorrected = "published",
) -> MixCo:
    """Draw partners, a permutation within each subject's sub-batch, and weights with PyTorch's global generator.

    Each sample is mixed with probability 1/2 and an own weight from Beta(0.15, 0.15). Arguments as of `MixCo`.
    """
    total = sum(sizes)
    partner = torch.cat([torch.randperm(size) for size in sizes])
    weight = torch.distributions.Beta(BETA, BETA).sample((total,))
    weight = torch.where(torch.rand(total) <= 0.5, weight, torch.ones(()))
    return MixCo(partner, weight, tuple(sizes), permutation, diagonal)


def mix_voxels(voxels: Sequence[Tensor], mixing: MixCo) -> list[Tensor]:
    """Mix each subject's voxels, `(b, V_s)` -> `(b, V_s)`."""
    mixed = []
    partners, own_weights = mixing.partner.split(mixing.sizes), mixing.weight.split(mixing.sizes)
    for own, partner, weights in zip(voxels, partners, own_weights, strict=True):
        weight = weights.to(own)[:, None]
        mixed.append(weight * own + (1 - weight) * own[partner.to(own.device)])
    return mixed
