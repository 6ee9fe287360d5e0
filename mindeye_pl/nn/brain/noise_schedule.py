"""The cosine noise schedule of the diffusion prior (MindEye2, spec section 4.1).

Legend: T timesteps.
"""

import torch
from torch import Tensor, nn


class CosineSchedule(nn.Module):
    """Cosine noise schedule as buffers `(T,)` float32, computed in float64.

    Args:
        timesteps: T.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    log_one_minus_alphas_cumprod: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    p2_loss_weight: Tensor

    def __init__(self, timesteps: int = 100):
        super().__init__()
        self.timesteps = timesteps
        with torch.device("cpu"):
            for name, value in _buffers(timesteps).items():
                self.register_buffer(name, value.float())

    def diffuse(self, clean: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Return noisy tokens `(B, S, D)`: clean tokens with noise `(B, S, D)` at integer times `(B,)`."""
        signal, amount = self.sqrt_alphas_cumprod[times], self.sqrt_one_minus_alphas_cumprod[times]
        return signal[:, None, None] * clean + amount[:, None, None] * noise


def _buffers(timesteps: int, offset: float = 0.008) -> dict[str, Tensor]:
    steps = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.cos((steps + offset) / (1 + offset) * torch.pi / 2) ** 2
    curve = curve / curve[0]
    betas = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
    alphas = 1 - betas
    cumprod = alphas.cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
    variance = betas * (1 - previous) / (1 - cumprod)
    return {
        "betas": betas,
        "alphas_cumprod": cumprod,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - cumprod).log(),
        "sqrt_recip_alphas_cumprod": (1 / cumprod).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / cumprod - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - cumprod),
        "posterior_mean_coef2": (1 - previous) * alphas.sqrt() / (1 - cumprod),
        "p2_loss_weight": torch.ones_like(betas),
    }
