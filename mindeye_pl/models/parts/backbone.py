"""The backbone: from the shared space to image tokens, and to the retrieval embedding.

Legend: B batch, h hidden width, S tokens, D token width.
"""

from torch import Tensor

from mindeye_pl.losses.contrastive import bimixco_loss, info_nce_loss, softclip_loss
from mindeye_pl.losses.mixco import MixCo
from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.models.objective import Objective
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.backbone import MixerBackbone, TokenBackbone
from mindeye_pl.nn.brain.mlp_backbone import MLPBackbone
from mindeye_pl.types import NonNegativeFloat, PartLoss, PositiveInt, ProperFraction, PublishedOrCorrected


class BackboneStage(Part):
    """What every backbone learns: tokens for the prior, and a retrieval embedding near the target tokens."""

    network: TokenBackbone

    def forward(self, aligned: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, h)` to backbone tokens `(B, S, D)` and retrieval embedding `(B, S, D)`."""
        return self.network(aligned)

    def compute_loss(
        self,
        aligned: Tensor,
        targets: Tensor,
        objective: Objective,
        *,
        temperature: float,
        mixing: MixCo | None = None,
        soft: bool = True,
        negatives: Negatives = "local",
    ) -> PartLoss:
        """The contrastive loss of the retrieval embedding against the target tokens.

        Args:
            aligned: `(B, h)`.
            targets: `(B, S, D)` target tokens, of the images before mixing.
            objective: its contrastive scale.
            temperature: of the logits.
            mixing: how the voxels were mixed, for BiMixCo.
            soft: of unmixed voxels, whether the targets are the images' likenesses (SoftCLIP) or the own image
                alone (InfoNCE, of this process's images).
            negatives: `local` | `gathered`, see `losses.negatives`.

        Returns:
            `contrastive` as the one part, `hidden`, `tokens` and `retrieval` as outputs.
        """
        hidden = self.network.hidden(aligned)  # (B, h)
        tokens, retrieval = self.network.read_out(hidden)
        outputs = {"hidden": hidden, "tokens": tokens, "retrieval": retrieval}
        if objective.contrastive_scale == 0:
            return PartLoss(tokens.new_zeros(()), {}, outputs)
        brain, clip = retrieval.flatten(1), targets.flatten(1)  # (B, S*D)
        if mixing is not None:
            loss = bimixco_loss(brain, clip, mixing, temperature=temperature, negatives=negatives)
        elif not soft:
            loss = info_nce_loss(brain, clip, temperature=temperature)
        else:
            loss = softclip_loss(brain, clip, temperature=temperature, negatives=negatives)
        loss = objective.contrastive_scale * loss
        return PartLoss(loss, {"contrastive": loss.detach()}, outputs)


class Backbone(BackboneStage):
    """MindEye2's: mixer blocks, a linear map to the tokens and the retrieval head (spec of MindEye2, section 3).

    Args:
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_blocks: mixer blocks.
        dropout: inside the blocks.
        mixer: `published` (the first blocks are inert) | `corrected`.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: MixerBackbone

    def __init__(
        self,
        hidden_dim: PositiveInt,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        dropout: ProperFraction = 0.15,
        mixer: PublishedOrCorrected = "published",
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
    ):
        network = MixerBackbone(hidden_dim, num_tokens, token_dim, num_blocks=num_blocks, dropout=dropout, mixer=mixer)
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)


class ResidualBackbone(BackboneStage):
    """MindEye1's: a residual MLP, a linear map to the tokens and the retrieval head (spec of MindEye1, section 4.1).

    Args:
        hidden_dim: h.
        num_tokens: S.
        token_dim: D.
        num_blocks: residual blocks.
        stem_dropout: before the first block.
        dropout: inside the blocks.
        retrieval_dim: width of the retrieval head.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: MLPBackbone

    def __init__(
        self,
        hidden_dim: PositiveInt,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        stem_dropout: ProperFraction = 0.5,
        dropout: ProperFraction = 0.15,
        retrieval_dim: PositiveInt = 2048,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
    ):
        network = MLPBackbone(
            hidden_dim,
            num_tokens,
            token_dim,
            num_blocks=num_blocks,
            stem_dropout=stem_dropout,
            dropout=dropout,
            retrieval_dim=retrieval_dim,
        )
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)
