"""The low-level stages: what a blurry reconstruction is made from.

Legend: B batch, b one subject's share, R repetitions, V voxels, h hidden width, C latent channels, L side of the
latents, M = (L / 4)^2 places of a feature map.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mindeye_pl.losses.negatives import Negatives
from mindeye_pl.losses.repetition_mixing import mix_repetitions
from mindeye_pl.losses.soft_contrastive import soft_contrastive_loss
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.low_level import LowLevelHead, LowLevelModel
from mindeye_pl.types import (
    BrainBatch,
    NonNegativeFloat,
    NonNegativeInt,
    PartLoss,
    PositiveFloat,
    PositiveInt,
    PublishedOrCorrected,
)


class LowLevelStage(Part):
    """What every low-level part learns: VAE latents and feature maps of the image.

    Args:
        network: the part itself.
        contrastive_scale: weight of the feature maps' loss beside the latents'.
        contrastive_temperature: of the same.
        latent_scale: what the latents' L1 is divided by.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
        lr_scale: see `Part`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        contrastive_scale: NonNegativeFloat,
        contrastive_temperature: PositiveFloat,
        latent_scale: PositiveFloat,
        weight_decay: NonNegativeFloat,
        gain_decay: PublishedOrCorrected,
        lr_scale: PositiveFloat = 1.0,
    ):
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay, lr_scale=lr_scale)
        self.contrastive_scale, self.contrastive_temperature = contrastive_scale, contrastive_temperature
        self.latent_scale = latent_scale

    @property
    @abstractmethod
    def head(self) -> LowLevelHead:
        """What reads latents and maps from the hidden vector."""

    @abstractmethod
    def hidden(self, voxels: Sequence[Tensor], subject_index: Sequence[int], backbone: Tensor) -> Tensor:
        """What the head reads, `(B, h)`.

        Args:
            voxels: one `(b, V_s)` for each subject.
            subject_index: whose they are.
            backbone: `(B, h)` hidden vector of the backbone.
        """

    def hidden_of(self, batch: BrainBatch, backbone: Tensor) -> Tensor:
        """The same of a batch, `(B, h)`."""
        return self.hidden(batch.voxels, batch.subject_index, backbone)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, h)` to latents `(B, C, L, L)` and maps `(B, M, 512)`."""
        return self.head(hidden)

    def draw_views(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Of `(B, K * M, 512)` maps the images' own `(B, M, 512)` and those of one augmented view each.

        In training the view is drawn by lot, of one image independently of another; in validation it is the first.
        """
        views = maps.unflatten(1, (-1, self.head.side**2))  # (B, K, M, 512)
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
        negatives: Negatives = "local",
    ) -> PartLoss:
        """L1 to the latents, and the soft contrastive loss of the maps where they are given (spec section 6.4).

        Computed in float32 whatever the precision of the training: in half precision it is known to overflow.

        Args:
            hidden: `(B, h)`; the gradient flows into it.
            latents: `(B, C, L, L)` or `(B, C, L * L)` scaled latents of the images, never mixed.
            maps: `(B, M, 512)` ConvNeXt features of the images.
            augmented_maps: `(B, M, 512)`, of their augmented views.
            scale: weight of the loss.
            negatives: of the maps' loss, `local` | `gathered`, see `losses.negatives`.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            grid = self.head.grid(hidden.float())
            predicted = self.head.to_latents(grid)
            l1 = scale * (predicted - latents.float().view_as(predicted)).abs().mean() / self.latent_scale
            loss = PartLoss(l1, {"low_level": l1.detach()}, {"latents": predicted})
            if maps is not None and augmented_maps is not None:
                student = self.head.maps(grid)  # not made where nothing is compared with them
                vectors = (part.float().flatten(0, 1) for part in (student, maps, augmented_maps))  # (B * M, 512) each
                contrastive = soft_contrastive_loss(
                    *vectors, temperature=self.contrastive_temperature, negatives=negatives
                )
                contrastive = scale * self.contrastive_scale * contrastive
                loss.total = l1 + contrastive
                loss.parts["low_level_maps"] = contrastive.detach()
        return loss


class LowLevel(LowLevelStage):
    """MindEye2's: a branch beside the backbone, on its hidden vector (MindEye2, spec section 3).

    Args:
        hidden_dim: h.
        latent_channels: C.
        latent_size: L.
        widths: see `LowLevelHead`.
        contrastive_scale: see `LowLevelStage`.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: LowLevelHead

    def __init__(
        self,
        hidden_dim: PositiveInt,
        *,
        latent_channels: PositiveInt = 4,
        latent_size: PositiveInt = 28,
        widths: Sequence[PositiveInt] = (32, 64, 128),
        contrastive_scale: NonNegativeFloat = 0.1,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
    ):
        super().__init__(
            LowLevelHead(hidden_dim, latent_channels=latent_channels, latent_size=latent_size, widths=widths),
            contrastive_scale=contrastive_scale,
            contrastive_temperature=0.2,
            latent_scale=1.0,
            weight_decay=weight_decay,
            gain_decay=gain_decay,
        )

    @property
    def head(self) -> LowLevelHead:
        """The network itself."""
        return self.network

    def hidden(self, voxels: Sequence[Tensor], subject_index: Sequence[int], backbone: Tensor) -> Tensor:
        """The backbone's own."""
        return backbone


class SeparateLowLevel(LowLevelStage):
    """MindEye1's: a model of its own from the voxels on, which no other part learns from (MindEye1, spec section 7).

    Trained on mixed repetitions of each image, in float32. The published one is a run of its own, with its own batch
    size and number of epochs; here it is trained beside the rest, which it neither changes nor is changed by.

    Args:
        voxel_counts: V of each subject.
        hidden_dim: h.
        num_blocks: residual blocks.
        latent_channels: C.
        latent_size: L.
        widths: see `LowLevelHead`.
        repetition_slots: R responses to each image that training asks the data for; 0 takes the trial alone.
        contrastive_scale: see `LowLevelStage`.
        latent_scale: of the VAE, which the latents' L1 is divided by.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
        lr_scale: see `Part`.
    """

    network: LowLevelModel

    def __init__(
        self,
        voxel_counts: Sequence[PositiveInt],
        hidden_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        latent_channels: PositiveInt = 4,
        latent_size: PositiveInt = 64,
        widths: Sequence[PositiveInt] = (64, 128, 256),
        repetition_slots: NonNegativeInt = 3,
        contrastive_scale: NonNegativeFloat = 0.1,
        latent_scale: PositiveFloat = 0.18215,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
        lr_scale: PositiveFloat = 1.0,
    ):
        network = LowLevelModel(
            voxel_counts,
            hidden_dim,
            num_blocks=num_blocks,
            latent_channels=latent_channels,
            latent_size=latent_size,
            widths=widths,
        )
        super().__init__(
            network,
            contrastive_scale=contrastive_scale,
            contrastive_temperature=0.075,
            latent_scale=latent_scale,
            weight_decay=weight_decay,
            gain_decay=gain_decay,
            lr_scale=lr_scale,
        )
        self.repetition_slots = repetition_slots

    @property
    def head(self) -> LowLevelHead:
        """The end of the network."""
        return self.network.head

    def hidden(self, voxels: Sequence[Tensor], subject_index: Sequence[int], backbone: Tensor) -> Tensor:
        """The model's own, in float32; the backbone's is not looked at."""
        with torch.autocast(backbone.device.type, enabled=False):
            return torch.cat(
                [self.network.hidden(v.float(), index) for v, index in zip(voxels, subject_index, strict=True)]
            )

    def hidden_of(self, batch: BrainBatch, backbone: Tensor) -> Tensor:
        """Of a batch's repetitions where it has them: mixed in training, their mean in validation."""
        if batch.repetitions is None:
            return super().hidden_of(batch, backbone)
        mix = mix_repetitions if self.training else _mean
        return self.hidden([mix(slots) for slots in batch.repetitions], batch.subject_index, backbone)


def _mean(repetitions: Tensor) -> Tensor:
    return repetitions.mean(1)  # (b, R, V) -> (b, V)
