"""The diffusion prior: its loss and its samplers around the prior network.

MindEye2, spec sections 4.4 and 4.5; MindEye1, spec section 4.3, by `target_scale="sqrt_width"`.

Legend: B batch, S tokens, D token width, T timesteps.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindeye_pl.nn.brain.noise_schedule import CosineSchedule
from mindeye_pl.nn.brain.prior_network import Layout, PriorCondition, PriorNetwork
from mindeye_pl.types import NonNegativeInt, PositiveInt, ProperFraction

#: Scale of the target tokens in the diffusion.
TargetScale = Literal["one", "sqrt_width"]


class DiffusionPriorModel(nn.Module):
    """Predicts clean target tokens from noisy ones, given backbone tokens.

    Args:
        num_tokens: S.
        token_dim: D.
        depth: transformer layers.
        head_dim: width of an attention head.
        heads: attention heads.
        timesteps: T.
        drop_probability: of the brain tokens and, independently, of the noisy tokens of a sample, in the loss.
        condition: see `PriorNetwork`.
        target_scale: of the target tokens in the diffusion. `one`: as they are. `sqrt_width`: times the square root of
            D, so that tokens of norm 1 are as large as the noise; the loss and the predictions are at that scale, and
            samples are brought back from it.
        layout: see `PriorNetwork`, as for the three that follow.
        padding: tokens before the brain's.
        time_table: times with a learned embedding each.
        inner_norm: inside the feed-forward layers.
    """

    def __init__(
        self,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        depth: PositiveInt = 6,
        head_dim: PositiveInt = 52,
        heads: PositiveInt = 32,
        timesteps: PositiveInt = 100,
        drop_probability: ProperFraction = 0.2,
        condition: PriorCondition = "sequence",
        target_scale: TargetScale = "one",
        layout: Layout = "parallel",
        padding: NonNegativeInt = 0,
        time_table: NonNegativeInt = 0,
        inner_norm: bool = False,
    ):
        super().__init__()
        assert target_scale in get_args(TargetScale), target_scale
        self.scale = token_dim**0.5 if target_scale == "sqrt_width" else 1.0
        self.drop_probability = drop_probability
        self.schedule = CosineSchedule(timesteps)
        self.network = PriorNetwork(
            num_tokens,
            token_dim,
            depth=depth,
            head_dim=head_dim,
            heads=heads,
            condition=condition,
            layout=layout,
            padding=padding,
            time_table=time_table,
            inner_norm=inner_norm,
        )

    def denoise(self, noisy: Tensor, times: Tensor, tokens: Tensor, *, drop_conditions: bool = False) -> Tensor:
        """Predicted clean tokens. Shape: `(B, S, D)`, `(B,)`, `(B, S, D)` -> `(B, S, D)`.

        Noisy and clean tokens are at the diffusion's scale. `drop_conditions` puts the learned null tokens in place of
        the brain tokens and of the noisy ones.
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
        """Mean squared error of the predicted clean tokens.

        Args:
            clean: `(B, S, D)` target tokens.
            tokens: `(B, S, D)` backbone tokens.
            times: `(B,)` integers in [0, T), drawn uniformly where None.
            noise: `(B, S, D)`, drawn from the standard normal where None.
            drop_probability: the module's own where None.

        Returns:
            The loss `()` and the prediction `(B, S, D)`, both at the diffusion's scale.
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
        """Target tokens for backbone tokens. Shape: `(B, S, D)` -> `(B, S, D)`.

        Args:
            tokens: the condition.
            steps: fewer than T: the published DDIM; T: the full DDPM.
            cond_scale: guidance; 1 is none.
            noise: standard-normal draws `(n, B, S, D)`, consumed in order, the starting point first.
        """
        draws = _draws(tokens, noise)
        if steps < self.schedule.timesteps:
            sampled = self._sample_ddim(tokens, steps, cond_scale, draws)
        else:
            sampled = self._sample_ddpm(tokens, cond_scale, draws)
        return sampled / self.scale

    def _guided(self, noisy: Tensor, time: int, tokens: Tensor, cond_scale: float) -> Tensor:
        times = torch.full((len(tokens),), time, device=tokens.device)
        kept = self.denoise(noisy, times, tokens)
        if cond_scale == 1:
            return kept
        dropped = self.denoise(noisy, times, tokens, drop_conditions=True)
        return dropped + (kept - dropped) * cond_scale

    def _sample_ddim(self, tokens: Tensor, steps: int, cond_scale: float, draws: Iterator[Tensor]) -> Tensor:
        """DDIM with eta 1 as published: one call fewer than `steps`, and noise levels read one step early.

        The noise is taken from the current step's schedule, the rest from the previous step's.
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
            draw = next(draws)  # drawn at the last step too, as published, and not used there
            x = mean + (0.5 * schedule.posterior_log_variance_clipped[time]).exp() * draw if time else mean
        return x


def _draws(like: Tensor, noise: Tensor | Iterable[Tensor] | None) -> Iterator[Tensor]:
    if noise is not None:
        yield from (draw.to(like.device) for draw in noise)
        return
    while True:
        yield torch.randn(like.shape, device=like.device)
