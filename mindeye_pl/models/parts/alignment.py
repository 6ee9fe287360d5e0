"""Functional alignment: each subject's voxels into the shared space.

Legend: B batch, V voxels of one subject, h hidden width.
"""

from torch import Tensor

from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import AlignmentNetwork
from mindeye_pl.nn.brain.bottleneck import Bottleneck
from mindeye_pl.types import NonNegativeFloat, PublishedOrCorrected


class FunctionalAlignment(Part):
    """Each subject's voxels into the shared space, regularised by weight decay (MindEye2, spec section 2).

    Args:
        network: `PerSubjectLinear` (MindEye2), `ClusterPooling` (Brain-IT) or another `AlignmentNetwork`.
        weight_decay: of the weights and, with `bias_decay`, of the biases.
        bias_decay: decays the biases under `gain_decay=published`, as MindEye2's optimiser does; MindEye1's does not.

    Attributes:
        bottleneck: projection of the aligned vectors in an evaluation; None, as in training, for none.
    """

    network: AlignmentNetwork

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
