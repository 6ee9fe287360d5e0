"""A mapper: voxels to one embedding of the image or its caption (Mind Reader, spec section 4).

Legend: B batch, V voxels of one subject, D embedding width.
"""

from torch import Tensor

from mindeye_pl.losses.mapper import TEMPERATURE, MapperWeights, mapper_loss
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import VoxelCounts
from mindeye_pl.nn.brain.voxel_cnn import VoxelCNN
from mindeye_pl.types import NonNegativeFloat, PartLoss, PositiveFloat, PublishedOrCorrected


class Mapper(Part):
    """Voxels of each subject to an embedding, by a convolutional network that the subjects share but for one layer.

    Args:
        gain_decay: `published` decays biases too, as the published optimiser does | `corrected` decays only matrices.
    """

    network: VoxelCNN

    def __init__(
        self,
        network: VoxelCNN,
        *,
        weight_decay: NonNegativeFloat = 1e-5,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay, lr_scale=lr_scale)
        self.voxels = VoxelCounts(network.voxel_counts)

    def decays(self, name: str) -> bool:
        """Return true if the optimiser decays the parameter of this name; the published one decays all."""
        return self.gain_decay == "published" or super().decays(name)

    def forward(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """Return the embedding, neither clamped nor normalised. Shape: `(B, V)` of one subject -> `(B, D)`."""
        return self.network(voxels, subject_index)

    def compute_loss(
        self, predicted: Tensor, target: Tensor, weights: MapperWeights, *, temperature: float = TEMPERATURE, name: str
    ) -> PartLoss:
        """Return the `mapper_loss` of predicted embeddings, with these as the output `NAME`.

        The weighted parts are `NAME_mse`, `NAME_cosine` and, where its weight is not zero, `NAME_contrastive`.
        """
        loss = mapper_loss(predicted, target, weights, temperature=temperature)
        addends = {
            f"{name}_{part}": weight * value.detach()
            for part, weight in weights._asdict().items()
            if (value := getattr(loss, part)) is not None
        }
        return PartLoss(loss.total, addends, {name: predicted})
