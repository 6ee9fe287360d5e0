"""Latents to styles: the mapping network, and style mixing (arXiv 1812.04948, sections 2 and 3.1).

Legend: B batch, Z width of a latent, W width of an intermediate latent, L layers of the generator that read one.
"""

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.equalised import EqualisedLinear
from mindeye_pl.nn.stylegan2.maps import full_precision


class MappingNetwork(nn.Module):
    """Map from latents to intermediate latents, always in float32.

    A latent is first normalised to length sqrt(Z). A latent of zeros stays zero, so that its output is learned and the
    same for every image. The running average of the outputs is stored with the weights, as in StyleGAN2.
    """

    average: Tensor  # (W,)

    def __init__(self, latent_dim: int, w_dim: int, *, num_layers: int, average_decay: float = 0.995):
        super().__init__()
        self.latent_dim, self.average_decay = latent_dim, average_decay
        widths = (latent_dim, *[w_dim] * (num_layers - 1))
        layers = (EqualisedLinear(width, w_dim, lr_multiplier=0.01, activation=True) for width in widths)
        self.layers = nn.Sequential(*layers)
        self.register_buffer("average", torch.zeros(w_dim))

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents. Shape: `(B, Z)` -> `(B, W)` float32."""
        with full_precision(latents):
            latents = latents.float()
            return self.layers(latents * (latents.square().mean(1, keepdim=True) + 1e-8).rsqrt())

    @torch.no_grad()
    def update_average(self, w: Tensor) -> None:
        """Move the running average towards the mean of `(B, W)`."""
        self.average.lerp_(w.float().mean(0), 1 - self.average_decay)


def mix_styles(styles: Tensor, others: Tensor, cut: int) -> Tensor:
    """Return the first `cut` layers of `styles` and the remaining ones of `others`, `(B, L, W)` as both are."""
    return torch.cat([styles[:, :cut], others[:, cut:]], 1)


def draw_cut(num_layers: int, *, probability: float = 0.9) -> int:
    """Sample the layer at which a batch's styles are mixed, from PyTorch's global generator.

    It is uniformly 1 to L - 1 with the probability of mixing, else L.
    """
    cut = int(torch.randint(1, num_layers, ()))
    return cut if torch.rand(()) < probability else num_layers
