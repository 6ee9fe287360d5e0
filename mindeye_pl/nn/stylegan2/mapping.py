"""From latents to styles: the mapping network, truncation, and style mixing (arXiv 1812.04948, sections 2 and 3.1).

Legend: B batch, Z width of a latent, W width of an intermediate latent, L layers of the generator that take one.
"""

import torch
from torch import Tensor, nn

from mindeye_pl.nn.stylegan2.equalised import EqualisedLinear
from mindeye_pl.nn.stylegan2.precision import full_precision


class MappingNetwork(nn.Module):
    """Latents to intermediate latents, always in float32.

    A latent's length does not count: it is brought to sqrt(Z) first. A latent of zeros stays one, so that what comes of
    it is learned and the same for every image.

    Args:
        latent_dim: Z.
        w_dim: W.
        num_layers: linear layers, with a leaky ReLU behind each.
        lr_multiplier: of their learning rate.
        average_decay: share of the running average that each batch leaves.
    """

    average: Tensor  # (W,)

    def __init__(
        self,
        latent_dim: int = 512,
        w_dim: int = 512,
        *,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        average_decay: float = 0.995,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.average_decay = average_decay
        self.layers = nn.Sequential(
            *(
                EqualisedLinear(width, w_dim, lr_multiplier=lr_multiplier, activation=True)
                for width in (latent_dim, *[w_dim] * (num_layers - 1))
            )
        )
        self.register_buffer("average", torch.zeros(w_dim))

    def forward(self, latents: Tensor) -> Tensor:
        """Shape: `(B, Z)` -> `(B, W)` float32."""
        with full_precision(latents):
            latents = latents.float()
            return self.layers(latents * (latents.square().mean(1, keepdim=True) + 1e-8).rsqrt())

    @torch.no_grad()
    def update_average(self, w: Tensor) -> None:
        """Moves the running average towards the mean of `(B, W)`."""
        self.average.lerp_(w.float().mean(0), 1 - self.average_decay)


def truncate(styles: Tensor, average: Tensor, strength: float, *, num_layers: int | None = None) -> Tensor:
    """Draws intermediate latents towards their average: images get more typical, and vary less.

    Args:
        styles: `(B, L, W)`.
        average: `(W,)`.
        strength: share of the distance from the average that is kept; 1 changes nothing.
        num_layers: how many of the first layers are drawn; None for all.
    """
    if strength == 1:
        return styles
    chosen = slice(num_layers)
    drawn = average.lerp(styles[:, chosen], strength)
    return torch.cat([drawn, styles[:, drawn.shape[1] :]], 1)


def mix_styles(styles: Tensor, others: Tensor, cut: int) -> Tensor:
    """The first `cut` layers of `styles`, and from there on those of `others`. All are `(B, L, W)`."""
    return torch.cat([styles[:, :cut], others[:, cut:]], 1)


def draw_cut(num_layers: int, *, probability: float = 0.9) -> int:
    """Draws, with PyTorch's global generator, where a batch's styles are cut for mixing.

    Args:
        num_layers: L.
        probability: of a cut.

    Returns:
        One of 1 to L - 1, each as likely as another; L where nothing is mixed.
    """
    cut = int(torch.randint(1, num_layers, ()))
    return cut if torch.rand(()) < probability else num_layers
