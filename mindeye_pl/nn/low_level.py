"""The low-level head: latents of a blurry reconstruction and auxiliary feature maps (MindEye2, spec section 3).

Legend: B batch, h hidden width, C latent channels, L side of the latents.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class LowLevelHead(nn.Module):
    """From the backbone's hidden vector to VAE latents and to feature maps.

    Args:
        hidden_dim: h.
        latent_channels: C.
        latent_size: L, a multiple of 4; 28 as published.
        widths: of the decoder's levels, the finest first.
    """

    channels = 64

    def __init__(
        self,
        hidden_dim: int,
        *,
        latent_channels: int = 4,
        latent_size: int = 28,
        widths: Sequence[int] = (32, 64, 128),
    ):
        super().__init__()
        assert latent_size % 4 == 0, latent_size
        self.side = latent_size // 4
        from diffusers.models.autoencoders.vae import Decoder

        self.from_hidden = nn.Linear(hidden_dim, self.channels * self.side**2)
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.GroupNorm(1, self.channels)
        self.to_latents = Decoder(
            in_channels=self.channels,
            out_channels=latent_channels,
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=tuple(widths),
            layers_per_block=1,
            norm_num_groups=min(32, *widths),
        )
        self.to_maps = nn.Sequential(
            nn.Conv2d(self.channels, 512, 1, bias=False),
            nn.GroupNorm(1, 512),
            nn.ReLU(),
            nn.Conv2d(512, 512, 1, bias=False),
            nn.GroupNorm(1, 512),
            nn.ReLU(),
            nn.Conv2d(512, 512, 1),
        )

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and maps. Shape: `(B, h)` -> `(B, C, L, L)`, `(B, (L / 4)^2, 512)`."""
        grid = self.grid(hidden)
        return self.to_latents(grid), self.maps(grid)

    def grid(self, hidden: Tensor) -> Tensor:
        """What latents and maps are made from. Shape: `(B, h)` -> `(B, 64, L / 4, L / 4)`."""
        grid = self.dropout(self.from_hidden(hidden)).unflatten(-1, (self.channels, self.side, self.side))
        return self.norm(grid)

    def maps(self, grid: Tensor) -> Tensor:
        """Shape: `(B, 64, L / 4, L / 4)` -> `(B, (L / 4)^2, 512)`."""
        return self.to_maps(grid).flatten(2).transpose(1, 2)
