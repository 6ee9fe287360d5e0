"""Networks of the blurry reconstruction: VAE latents and auxiliary feature maps.

`LowLevelHead` is MindEye2's branch beside its backbone (spec section 3). After an MLP of its own it is MindEye1's
low-level model (MindEye1, spec section 7.1).

Legend: B batch, V voxels, h hidden width, C latent channels, L side of the latents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.nn.brain.backbone import ResidualMLP
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import PositiveInt, ProperFraction, PublishedOrCorrected


class LowLevelHead(Recorded):
    """Map from a hidden vector to VAE latents and feature maps.

    Args:
        hidden_dim: h.
        latent_channels: C.
        latent_size: L, a multiple of 4; 28 as published for MindEye2, 64 for MindEye1.
        widths: channels of the decoder's levels, the finest first.
        bias: adds a bias to the map from the hidden vector.
        dropout: probability after that map.
        maps: False omits the maps' projection, so that the maps are the grid itself, 64 wide.
        norms: `published` normalises the decoder's channels in 32 groups, at MindEye2's finest level of 32 channels
            each by itself, so that no channel's mean over the image reaches the latents | `corrected` normalises all
            channels of a level together.
    """

    channels = 64

    def __init__(
        self,
        hidden_dim: PositiveInt,
        *,
        latent_channels: PositiveInt = 4,
        latent_size: PositiveInt = 28,
        widths: Sequence[PositiveInt] = (32, 64, 128),
        bias: bool = True,
        dropout: ProperFraction = 0.3,
        maps: bool = True,
        norms: PublishedOrCorrected = "published",
    ):
        super().__init__()
        assert latent_size % 4 == 0, latent_size
        self.side = latent_size // 4
        from diffusers.models.autoencoders.vae import Decoder

        self.from_hidden = nn.Linear(hidden_dim, self.channels * self.side**2, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.GroupNorm(1, self.channels)
        self.to_latents = Decoder(
            in_channels=self.channels,
            out_channels=latent_channels,
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=tuple(widths),
            layers_per_block=1,
            norm_num_groups=min(32, *widths) if norms == "published" else 1,
        )
        self.to_maps: nn.Module = nn.Identity()
        if maps:
            self.to_maps = nn.Sequential(
                *(nn.Conv2d(self.channels, 512, 1, bias=False), nn.GroupNorm(1, 512), nn.ReLU()),
                *(nn.Conv2d(512, 512, 1, bias=False), nn.GroupNorm(1, 512), nn.ReLU()),
                nn.Conv2d(512, 512, 1),
            )

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and maps. Shape: `(B, h)` -> `(B, C, L, L)`, `(B, (L / 4)^2, 512)`."""
        grid = self.grid(hidden)
        return self.to_latents(grid), self.maps(grid)

    def grid(self, hidden: Tensor) -> Tensor:
        """Return the common grid of latents and maps. Shape: `(B, h)` -> `(B, 64, L / 4, L / 4)`."""
        grid = self.dropout(self.from_hidden(hidden)).unflatten(-1, (self.channels, self.side, self.side))
        return self.norm(grid)

    def maps(self, grid: Tensor) -> Tensor:
        """Return the maps of a grid. Shape: `(B, 64, L / 4, L / 4)` -> `(B, (L / 4)^2, 512)`."""
        return self.to_maps(grid).flatten(2).transpose(1, 2)


class LowLevelPrediction(NamedTuple):
    """Output of the low-level model."""

    latents: Tensor  # (B, C, L, L), multiplied by the VAE's scaling factor
    maps: Tensor  # (B, (L / 4)^2, 512)


class LowLevelModel(Recorded):
    """MindEye1's low-level model: voxels to latents, independent of every other part (spec section 7.1).

    Args:
        voxel_counts: V of each subject.
        hidden_dim: h.
        num_blocks: residual blocks.
        latent_channels: C.
        latent_size: L.
        widths: see `LowLevelHead`.
        maps: see `LowLevelHead`.
        norms: see `LowLevelHead`.
    """

    def __init__(
        self,
        voxel_counts: Sequence[PositiveInt],
        hidden_dim: PositiveInt,
        *,
        num_blocks: PositiveInt = 4,
        latent_channels: PositiveInt = 4,
        latent_size: PositiveInt = 64,
        widths: Sequence[PositiveInt] = (64, 128, 256),
        maps: bool = True,
        norms: PublishedOrCorrected = "published",
    ):
        super().__init__()
        self.alignment = PerSubjectLinear(voxel_counts, hidden_dim, bias=False)
        self.mlp = ResidualMLP(hidden_dim, num_blocks=num_blocks, bias=False, activation=nn.SiLU, dropout=0.25)
        sizes: dict[str, Any] = {"latent_channels": latent_channels, "latent_size": latent_size, "widths": widths}
        self.head = LowLevelHead(hidden_dim, **sizes, bias=False, dropout=0.0, maps=maps, norms=norms)

    def hidden(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """Return the head's input. Shape: `(B, V)` of one subject -> `(B, h)`."""
        return self.mlp(self.alignment(voxels, subject_index))

    def forward(self, voxels: Tensor, subject_index: int = 0) -> LowLevelPrediction:
        """Return latents and maps of one subject's voxels `(B, V)`."""
        return LowLevelPrediction(*self.head(self.hidden(voxels, subject_index)))

    @torch.no_grad()
    def predict(self, voxels: Tensor, subject_index: int = 0) -> LowLevelPrediction:
        """Return `forward` without a gradient, in the module's current mode."""
        return self(voxels, subject_index)
