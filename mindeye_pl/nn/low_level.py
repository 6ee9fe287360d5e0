"""The low-level head: latents of a blurry reconstruction and auxiliary feature maps (MindEye2, spec section 3).

Legend: B batch, h hidden width.
"""

from torch import Tensor, nn


class LowLevelHead(nn.Module):
    """From the backbone's hidden vector to VAE latents and to feature maps.

    Args:
        hidden_dim: h.
    """

    channels, side = 64, 7

    def __init__(self, hidden_dim: int):
        super().__init__()
        from diffusers.models.autoencoders.vae import Decoder

        self.from_hidden = nn.Linear(hidden_dim, self.channels * self.side**2)
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.GroupNorm(1, self.channels)
        self.to_latents = Decoder(
            in_channels=self.channels,
            out_channels=4,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 128),
            layers_per_block=1,
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
        """Latents and maps. Shape: `(B, h)` -> `(B, 4, 28, 28)`, `(B, 49, 512)`."""
        grid = self.dropout(self.from_hidden(hidden)).unflatten(-1, (self.channels, self.side, self.side))
        grid = self.norm(grid)  # (B, 64, 7, 7)
        return self.to_latents(grid), self.to_maps(grid).flatten(2).transpose(1, 2)
