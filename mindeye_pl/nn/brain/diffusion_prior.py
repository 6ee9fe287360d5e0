"""The diffusion prior: loss and samplers around its denoising network.

Sources: MindEye2, spec sections 4.4 and 4.5; MindEye1, spec section 4.3, with `target_scale="sqrt_width"`.

Legend: B batch, S tokens, D token width, T timesteps.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.brain.prior_network import PriorNetwork
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.types import PositiveInt, ProperFraction

#: Scale of the target tokens in the diffusion.
TargetScale = Literal["one", "sqrt_width"]


class CosineSchedule(nn.Module):
    """Cosine noise schedule (MindEye2, spec section 4.1) as buffers `(T,)` float32, computed in float64."""

    alphas_cumprod_prev: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor

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


class DiffusionPriorModel(Recorded):
    """A diffusion model of target tokens, conditioned on backbone tokens.

    Args:
        denoiser: predicts clean tokens.
        timesteps: T.
        drop_probability: probability in the loss that a sample's brain tokens and, independently, its noisy tokens are
            replaced by null tokens.
        target_scale: scale of the target tokens in the diffusion. `one` leaves them unchanged. `sqrt_width` multiplies
            them by the square root of D, so that tokens of norm 1 are as large as the noise; loss and predictions are
            at that scale, samples are divided by it.
    """

    def __init__(
        self,
        denoiser: PriorNetwork,
        *,
        timesteps: PositiveInt = 100,
        drop_probability: ProperFraction = 0.2,
        target_scale: TargetScale = "one",
    ):
        super().__init__()
        self.scale = denoiser.token_dim**0.5 if target_scale == "sqrt_width" else 1.0
        self.drop_probability, self.target_scale = drop_probability, target_scale
        self.schedule = CosineSchedule(timesteps)
        self.network = denoiser  # its name in the state dict

    def denoise(self, noisy: Tensor, times: Tensor, tokens: Tensor, *, drop_conditions: bool = False) -> Tensor:
        """Predict clean tokens `(B, S, D)` from noisy ones, both at the diffusion's scale, at times `(B,)` in [0, T).

        `tokens` `(B, S, D)` are the brain's; `drop_conditions` replaces both inputs by the learned null tokens.
        """
        keep = torch.full((len(noisy),), not drop_conditions, device=noisy.device)
        return self.network(noisy, times, tokens, keep, keep)

    def loss(
        self,
        clean: Tensor,
        tokens: Tensor,
        *,
        times: Tensor | None = None,
        noise: Tensor | None = None,
        drop_probability: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of the predicted clean tokens, and the prediction, at the diffusion's scale.

        Args:
            clean: `(B, S, D)` target tokens.
            tokens: `(B, S, D)` backbone tokens.
            times: `(B,)` integers in [0, T); None samples them uniformly.
            noise: `(B, S, D)`; None samples it from the standard normal.
            drop_probability: None takes the module's own.
        """
        clean = clean * self.scale
        batch, device = len(clean), clean.device
        if times is None:
            times = torch.randint(0, self.schedule.timesteps, (batch,), device=device)
        if noise is None:
            noise = torch.randn_like(clean)
        probability = self.drop_probability if drop_probability is None else drop_probability
        keep_brain, keep_noisy = (torch.rand(batch, device=device) >= probability for _ in range(2))
        noisy = self.schedule.diffuse(clean, times, noise)
        prediction = self.network(noisy, times, tokens, keep_brain, keep_noisy)
        return F.mse_loss(prediction, clean), prediction

    @torch.no_grad()
    def sample(
        self,
        tokens: Tensor,
        *,
        steps: int = 20,
        cond_scale: float = 1.0,
        noise: Tensor | Iterable[Tensor] | None = None,
    ) -> Tensor:
        """Sample target tokens for backbone tokens. Shape: `(B, S, D)` -> `(B, S, D)`.

        Args:
            tokens: condition.
            steps: fewer than T selects the published DDIM, T the full DDPM.
            cond_scale: classifier-free guidance; 1 for none.
            noise: standard-normal draws `(n, B, S, D)`, consumed in order, the starting point first.
        """
        draws = _draws(tokens, noise)
        if steps < self.schedule.timesteps:
            return self._sample_ddim(tokens, steps, cond_scale, draws) / self.scale
        return self._sample_ddpm(tokens, cond_scale, draws) / self.scale

    def _guided(self, noisy: Tensor, time: int, tokens: Tensor, cond_scale: float) -> Tensor:
        times = torch.full((len(tokens),), time, device=tokens.device)
        kept = self.denoise(noisy, times, tokens)
        if cond_scale == 1:
            return kept
        dropped = self.denoise(noisy, times, tokens, drop_conditions=True)
        return dropped + (kept - dropped) * cond_scale

    def _sample_ddim(self, tokens: Tensor, steps: int, cond_scale: float, draws: Iterator[Tensor]) -> Tensor:
        """Sample by DDIM with eta 1 as published: one call fewer than `steps`, noise levels read one step early.

        The noise is read from the current step's schedule, all else from the previous step's.
        """
        schedule = self.schedule
        grid = torch.linspace(-1, schedule.timesteps, steps + 1)[:-1].int().flip(0).tolist()
        x = next(draws)
        for time, after in pairwise(grid):
            clean = self._guided(x, time, tokens, cond_scale)
            if after < 0:
                return clean
            level, level_after = schedule.alphas_cumprod_prev[time], schedule.alphas_cumprod_prev[after]
            noise = (schedule.sqrt_recip_alphas_cumprod[time] * x - clean) / schedule.sqrt_recipm1_alphas_cumprod[time]
            fresh = ((1 - level / level_after) * (1 - level_after) / (1 - level)).sqrt()
            kept = (1 - level_after - fresh.square()).sqrt()
            x = level_after.sqrt() * clean + fresh * next(draws) + kept * noise
        return x

    def _sample_ddpm(self, tokens: Tensor, cond_scale: float, draws: Iterator[Tensor]) -> Tensor:
        schedule = self.schedule
        x = next(draws)
        for time in reversed(range(schedule.timesteps)):
            clean = self._guided(x, time, tokens, cond_scale)
            mean = schedule.posterior_mean_coef1[time] * clean + schedule.posterior_mean_coef2[time] * x
            draw = next(draws)  # consumed at the last step too, as published, but not used there
            x = mean + (0.5 * schedule.posterior_log_variance_clipped[time]).exp() * draw if time else mean
        return x


def _draws(like: Tensor, noise: Tensor | Iterable[Tensor] | None) -> Iterator[Tensor]:
    if noise is not None:
        yield from (draw.to(like.device) for draw in noise)
        return
    while True:
        yield torch.randn(like.shape, device=like.device)


def _buffers(timesteps: int) -> dict[str, Tensor]:
    steps = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64) / timesteps
    curve = torch.cos((steps + 0.008) / (1 + 0.008) * torch.pi / 2) ** 2
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
