"""Functional alignment: each subject's voxels into the shared space.

Legend: B batch, V voxels of one subject, h hidden width.
"""

import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import AlignmentNetwork
from mindeye_pl.nn.brain.bottleneck import Bottleneck
from mindeye_pl.types import NonNegativeFloat, PartLoss, PublishedOrCorrected


class FunctionalAlignment(Part):
    """Each subject's voxels into the shared space, regularised by weight decay (MindEye2, spec section 2).

    Args:
        network: `PerSubjectLinear` (MindEye2), `ClusterPooling` (Brain-IT) or another `AlignmentNetwork`.
        weight_decay: of the weights and, with `bias_decay`, of the biases.
        bias_decay: decays the biases under `gain_decay=published`, as MindEye2's optimiser does; MindEye1's does not.

    Attributes:
        distillation: weight of `compute_loss`.
        bottleneck: projection of the aligned vectors in an evaluation; None, as in training, for none.
    """

    network: AlignmentNetwork
    distillation: float = 0.0

    def __init__(
        self,
        network: AlignmentNetwork,
        *,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        bias_decay: bool = True,
    ):
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)
        self.bias_decay = bias_decay
        self.bottleneck: Bottleneck | None = None

    def decays(self, name: str) -> bool:
        """Return true if the optimiser decays the parameter of this name, biases included under `bias_decay`."""
        return (self.gain_decay == "published" and self.bias_decay) or super().decays(name)

    def forward(self, voxels: Tensor, subject_index: int) -> Tensor:
        """Align one subject's voxels. Shape: `(B, V)` -> `(B, h)`."""
        aligned = self.network(voxels, subject_index)
        return aligned if self.bottleneck is None else self.bottleneck(aligned)

    def compute_loss(self, aligned: Tensor, shared: Tensor) -> PartLoss:
        """Return the mean cosine distance of aligned trials from the shared vectors of their images, `(B, h)` each.

        StableMind's distillation (arXiv:2605.02586), with one target for all subjects. Its one part is `alignment`.
        """
        loss = self.distillation * (1 - F.cosine_similarity(aligned, shared)).mean()
        return PartLoss(loss, {"alignment": loss.detach()})
