"""The low-level stage: what a blurry reconstruction is made from.

Legend: B batch, h hidden width, C latent channels, L side of the latents, M = (L / 4)^2 places of a feature map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.losses.soft_contrastive import soft_contrastive_loss
from mindeye_pl.nn.low_level import LowLevelHead
from mindeye_pl.stages.stage import Stage
from mindeye_pl.types import StageLoss


class LowLevel(Stage):
    """Latents and auxiliary maps from the backbone's hidden vector (MindEye2, spec section 3).

    Args:
        hidden_dim: h.
        latent_channels: C.
        latent_size: L.
        widths: see `LowLevelHead`.
        contrastive_scale: weight of the feature maps' loss beside the latents'.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: LowLevelHead

    def __init__(
        self,
        hidden_dim: int,
        *,
        latent_channels: int = 4,
        latent_size: int = 28,
        widths: Sequence[int] = (32, 64, 128),
        contrastive_scale: float = 0.1,
        weight_decay: float = 1e-2,
        gain_decay: str = "published",
    ):
        network = LowLevelHead(hidden_dim, latent_channels=latent_channels, latent_size=latent_size, widths=widths)
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)
        self.contrastive_scale = contrastive_scale

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, h)` to latents `(B, C, L, L)` and maps `(B, M, 512)`."""
        return self.network(hidden)

    def draw_views(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Of `(B, K * M, 512)` maps the pictures' own `(B, M, 512)` and those of one augmented view each.

        In training the view is drawn by lot, of one picture independently of another; in validation it is the first.
        """
        views = maps.unflatten(1, (-1, self.network.side**2))  # (B, K, M, 512)
        count = len(views)
        lots = torch.randint(1, views.shape[1], (count,)) if self.training else torch.ones(count, dtype=torch.long)
        return views[:, 0], views[torch.arange(count), lots]

    def compute_loss(
        self,
        hidden: Tensor,
        latents: Tensor,
        maps: Tensor | None = None,
        augmented_maps: Tensor | None = None,
        *,
        scale: float = 1.0,
        negatives: str = "local",
    ) -> StageLoss:
        """L1 to the latents, and the soft contrastive loss of the maps where they are given (spec section 6.4).

        Computed in float32 whatever the precision of the training: in half precision it is known to overflow.

        Args:
            hidden: `(B, h)`; the gradient flows into it.
            latents: `(B, C, L, L)` or `(B, C, L * L)` scaled latents of the pictures, never mixed.
            maps: `(B, M, 512)` ConvNeXt features of the pictures.
            augmented_maps: `(B, M, 512)`, of their augmented views.
            scale: weight of the loss.
            negatives: of the maps' loss, `local` | `gathered`, see `losses.negatives`.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            grid = self.network.grid(hidden.float())
            predicted = self.network.to_latents(grid)
            l1 = scale * (predicted - latents.float().view_as(predicted)).abs().mean()
            loss = StageLoss(l1, {"low_level": l1.detach()}, {"latents": predicted})
            if maps is not None and augmented_maps is not None:
                student = self.network.maps(grid)  # not made where nothing is compared with them
                vectors = (part.float().flatten(0, 1) for part in (student, maps, augmented_maps))  # (B * M, 512) each
                contrastive = scale * self.contrastive_scale * soft_contrastive_loss(*vectors, negatives=negatives)
                loss.total = l1 + contrastive
                loss.parts["low_level_maps"] = contrastive.detach()
        return loss
