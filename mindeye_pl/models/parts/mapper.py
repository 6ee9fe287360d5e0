"""A mapper: from voxels to one embedding of the image (Mind Reader, spec section 4).

Legend: B batch, V voxels of one subject, P padded voxels, D embedding width.
"""

from collections.abc import Sequence
from math import ceil, lcm

from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.losses.mapper import TEMPERATURE, MapperWeights, mapper_loss
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import VoxelCounts
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN
from mindeye_pl.types import (
    NonNegativeFloat,
    NonNegativeInt,
    PartLoss,
    PositiveFloat,
    PositiveInt,
    PublishedOrCorrected,
)


class MapperStage(Part):
    """Voxels of each subject to an embedding by a convolutional network, of which the subjects share almost all.

    Args:
        voxel_counts: V of each subject, in the order of the subject indices.
        embedding_dim: D.
        padded_voxels: P of each subject, or of all; None takes as few as the network and `pad_multiple` allow.
        pad_multiple: what P is a multiple of; 32 brings subject 1's 15,724 voxels to the published 15,744.
        channels: see `VoxelCNN`.
        num_stems: see `VoxelCNN`.
        num_blocks: see `VoxelCNN`.
        hidden_dim: see `VoxelCNN`.
        weight_decay: of the optimiser.
        gain_decay: `published` decays biases too, as the published optimiser does | `corrected` matrices alone.
        lr_scale: see `Part`.

    Raises:
        UserError: for padded voxels that do not hold a subject's, or that the stems cannot halve.
    """

    network: VoxelCNN

    def __init__(
        self,
        voxel_counts: Sequence[PositiveInt],
        embedding_dim: PositiveInt,
        *,
        padded_voxels: PositiveInt | Sequence[PositiveInt] | None = None,
        pad_multiple: PositiveInt = 1,
        channels: PositiveInt = 64,
        num_stems: NonNegativeInt = 1,
        num_blocks: NonNegativeInt = 4,
        hidden_dim: PositiveInt = 128,
        weight_decay: NonNegativeFloat = 1e-5,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        network = VoxelCNN(
            _padded(voxel_counts, padded_voxels, 2**num_stems, pad_multiple),
            embedding_dim,
            channels=channels,
            num_stems=num_stems,
            num_blocks=num_blocks,
            hidden_dim=hidden_dim,
        )
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay, lr_scale=lr_scale)
        self.voxels = VoxelCounts(voxel_counts)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """The published optimiser decays everything."""
        return self.gain_decay == "published" or super().decays(name, parameter)

    def forward(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """`(B, V)` voxels of one subject to `(B, D)`, neither clamped nor normalised."""
        return self.network(voxels, subject_index)

    def compute_loss(
        self,
        predicted: Tensor,
        target: Tensor,
        weights: MapperWeights,
        *,
        temperature: float = TEMPERATURE,
        name: str = "embedding",
    ) -> PartLoss:
        """Squared error, cosine and, where it has a weight, contrastive loss of predicted embeddings.

        Args:
            predicted: `(B, D)`, not normalised.
            target: `(B, D)`, of length one.
            weights: of the parts.
            temperature: of the contrastive loss.
            name: what the names of the parts and of the output begin with, or are.

        Returns:
            `NAME_mse`, `NAME_cosine` and `NAME_contrastive` as parts, weighted, and `NAME` as the output.
        """
        loss = mapper_loss(predicted, target, weights, temperature=temperature)
        addends = {
            part: weight * value.detach()
            for part, weight in weights._asdict().items()
            if (value := getattr(loss, part)) is not None
        }
        return PartLoss(loss.total, {f"{name}_{part}": value for part, value in addends.items()}, {name: predicted})


def _padded(
    voxel_counts: Sequence[int], given: int | Sequence[int] | None, halved: int, pad_multiple: int
) -> list[int]:
    """P of each subject."""
    if given is None:
        unit = lcm(halved, pad_multiple)
        return [unit * ceil(count / unit) for count in voxel_counts]
    padded = [given] * len(voxel_counts) if isinstance(given, int) else list(given)
    if len(padded) != len(voxel_counts):
        raise UserError(
            "padded_voxels are not one number a subject", got=padded, expected=f"{len(voxel_counts)} of them"
        )
    for count, size in zip(voxel_counts, padded, strict=True):
        if size < count or size % halved:
            wanted = f"a multiple of {halved}, at least {count}"
            raise UserError(
                "padded_voxels does not fit the voxels", got=size, expected=wanted, fix="padded_voxels=null"
            )
    return padded
