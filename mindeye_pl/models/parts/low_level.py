"""Low-level parts: VAE latents and feature maps, from which a blurry reconstruction is decoded.

Legend: B batch, b trials of one subject, R repetitions, V voxels, h hidden width, C latent channels, L side of the
latents, M = (L / 4)^2 positions of a feature map, K views of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.losses.contrastive import soft_contrastive_loss
from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.losses.repetition_mixing import mix_repetitions
from mindeye_pl.models.parts.part import Part, read_subjects
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.types import BrainBatch, NonNegativeFloat, NonNegativeInt, PartLoss, PositiveFloat, PublishedOrCorrected


class LowLevel(Part):
    """VAE latents and feature maps of the image, from the backbone's hidden vector (MindEye2, spec section 3).

    Args:
        contrastive_scale: weight of the feature maps' loss relative to the latents'.
    """

    network: LowLevelHead | LowLevelModel
    #: False for a part that reads the voxels itself and not the backbone.
    uses_backbone = True
    #: Temperature of the feature maps' loss.
    contrastive_temperature = 0.2
    #: Divisor of the latents' L1.
    latent_scale = 1.0

    def __init__(
        self,
        network: LowLevelHead | LowLevelModel,
        *,
        contrastive_scale: NonNegativeFloat = 0.1,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay, lr_scale=lr_scale)
        self.contrastive_scale = contrastive_scale

    @property
    def head(self) -> LowLevelHead:
        """The layers that read latents and maps from the hidden vector."""
        return self.network.head if isinstance(self.network, LowLevelModel) else self.network

    def hidden(self, voxels: Sequence[Tensor], subject_index: Sequence[int], backbone: Tensor) -> Tensor:
        """Return the head's input `(B, h)`: the backbone's hidden vector `(B, h)`."""
        return backbone

    def hidden_of(self, batch: BrainBatch, backbone: Tensor) -> Tensor:
        """Return the head's input `(B, h)` for a training batch."""
        return self.hidden(batch.voxels, batch.subject_index, backbone)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and maps. Shape: `(B, h)` -> `(B, C, L, L)`, `(B, M, 512)`."""
        return self.head(hidden)

    def draw_views(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return each image's own map and that of one augmented view: a random one in training, else the first.

        Shape: `(B, K * M, 512)` -> `(B, M, 512)`, `(B, M, 512)`.
        """
        views = maps.unflatten(1, (-1, self.head.side**2))  # (B, K, M, 512)
        count = len(views)
        drawn = torch.randint(1, views.shape[1], (count,)) if self.training else torch.ones(count, dtype=torch.long)
        return views[:, 0], views[torch.arange(count), drawn]

    def compute_loss(
        self,
        hidden: Tensor,
        latents: Tensor,
        maps: Tensor | None = None,
        augmented_maps: Tensor | None = None,
        *,
        scale: float = 1.0,
        negatives: Negatives = "local",
    ) -> PartLoss:
        """Return the latents' L1 and, where maps are given, their soft contrastive loss (MindEye2, spec section 6.4).

        Computed in float32 at every training precision: it overflows in half precision. The parts are `low_level` and
        `low_level_maps`, the output is `latents`.

        Args:
            hidden: `(B, h)`; the gradient flows into it.
            latents: `(B, C, L, L)` or `(B, C, L * L)` scaled latents of the images, never mixed.
            maps: `(B, M, 512)` ConvNeXt features of the images.
            augmented_maps: `(B, M, 512)` features of augmented views.
            scale: weight of the loss.
            negatives: of the maps' loss, see `losses.negatives`.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            grid = self.head.grid(hidden.float())
            predicted = self.head.to_latents(grid)
            l1 = scale * (predicted - latents.float().view_as(predicted)).abs().mean() / self.latent_scale
            loss = PartLoss(l1, {"low_level": l1.detach()}, {"latents": predicted})
            if maps is not None and augmented_maps is not None:
                student = self.head.maps(grid)  # computed only where it is compared
                vectors = (part.float().flatten(0, 1) for part in (student, maps, augmented_maps))  # (B * M, 512) each
                temperature = self.contrastive_temperature
                contrastive = soft_contrastive_loss(*vectors, temperature=temperature, negatives=negatives)
                contrastive = scale * self.contrastive_scale * contrastive
                loss.total = l1 + contrastive
                loss.parts["low_level_maps"] = contrastive.detach()
        return loss


class SeparateLowLevel(LowLevel):
    """MindEye1's low-level model, which reads the voxels and shares nothing with the other parts (spec section 7).

    It is trained in float32 on mixed repetitions of each image. The published one is trained in a run of its own, with
    its own batch size and number of epochs; here it is trained in the same run, without effect on the other parts.

    Args:
        repetition_slots: R, responses to each image that are mixed in training; 0 takes the trial alone.
        latent_scale: divisor of the latents' L1, the VAE's scaling factor.
    """

    network: LowLevelModel
    uses_backbone = False
    contrastive_temperature = 0.075

    def __init__(
        self,
        network: LowLevelModel,
        *,
        repetition_slots: NonNegativeInt = 3,
        contrastive_scale: NonNegativeFloat = 0.1,
        latent_scale: PositiveFloat = 0.18215,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        decays: dict[str, Any] = {"weight_decay": weight_decay, "gain_decay": gain_decay}
        super().__init__(network, contrastive_scale=contrastive_scale, **decays, lr_scale=lr_scale)
        self.repetition_slots, self.latent_scale = repetition_slots, latent_scale

    def hidden(self, voxels: Sequence[Tensor], subject_index: Sequence[int], backbone: Tensor) -> Tensor:
        """Return the model's own hidden vector `(B, h)` in float32; `backbone` is ignored."""
        with torch.autocast(backbone.device.type, enabled=False):
            return read_subjects(self.network.hidden, [v.float() for v in voxels], subject_index)

    def hidden_of(self, batch: BrainBatch, backbone: Tensor) -> Tensor:
        """Return the hidden vector of a batch's repetitions: mixed in training, averaged in validation."""
        if batch.repetitions is None:
            return super().hidden_of(batch, backbone)
        one_each = [mix_repetitions(r) if self.training else r.mean(1) for r in batch.repetitions]  # (b, V) each
        return self.hidden(one_each, batch.subject_index, backbone)
