"""The backbone: from the shared space to image tokens and the retrieval embedding.

Legend: B batch, h hidden width, S tokens, D token width.
"""

import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.losses.contrastive import bimixco_loss, info_nce_loss, softclip_loss
from mindeye_pl.losses.mixco import MixCo
from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.models.objectives import Objective, Phase
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.backbone import TokenBackbone
from mindeye_pl.types import PartLoss


class Backbone(Part):
    """Tokens for the prior, and a retrieval embedding that the contrastive loss brings near the target tokens.

    Args:
        network: `MixerBackbone` (MindEye2), `MLPBackbone` (MindEye1) or another `TokenBackbone`.
    """

    network: TokenBackbone

    def forward(self, aligned: Tensor) -> tuple[Tensor, Tensor]:
        """Return backbone tokens and retrieval embedding. Shape: `(B, h)` -> `(B, S, D)`, `(B, S, D)`."""
        return self.network(aligned)

    def compute_loss(
        self,
        aligned: Tensor,
        targets: Tensor,
        objective: Objective,
        phase: Phase,
        *,
        mixing: MixCo | None = None,
        negatives: Negatives = "local",
    ) -> PartLoss:
        """Return the contrastive loss of the retrieval embedding against `(B, S, D)` target tokens, never mixed.

        Its one part is `contrastive`, its outputs are `hidden`, `tokens` and `retrieval`. `mixing` of the voxels makes
        it BiMixCo, else `phase` selects SoftCLIP or InfoNCE over this process's images.
        """
        hidden = self.network.hidden(aligned)  # (B, h)
        tokens, retrieval = self.network.read_out(hidden)
        outputs = {"hidden": hidden, "tokens": tokens, "retrieval": retrieval}
        if objective.contrastive_scale == 0:
            return PartLoss(tokens.new_zeros(()), {}, outputs)
        brain, clip = retrieval.flatten(1), targets.flatten(1)  # (B, S*D)
        if mixing is not None:
            loss = bimixco_loss(brain, clip, mixing, temperature=phase.temperature, negatives=negatives)
        elif phase.soft:
            loss = softclip_loss(brain, clip, temperature=phase.temperature, negatives=negatives)
        else:
            loss = info_nce_loss(brain, clip, temperature=phase.temperature)
        loss = objective.contrastive_scale * loss
        return PartLoss(loss, {"contrastive": loss.detach()}, outputs)

    def compute_token_loss(self, tokens: Tensor, targets: Tensor, *, scale: float = 1.0) -> PartLoss:
        """Return the mean squared error of the backbone tokens against the target tokens, `(B, S, D)` each.

        It trains the tokens of a system without a prior. Its one part is `tokens`; `scale` is the weight of the loss.
        """
        loss = scale * F.mse_loss(tokens, targets)
        return PartLoss(loss, {"tokens": loss.detach()}, {})
