"""The diffusion prior: backbone tokens to clean target tokens.

Legend: B batch, S tokens, D token width.
"""

from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor

from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.diffusion_prior import DiffusionPriorModel, TargetScale
from mindeye_pl.nn.brain.prior_network import Layout, PriorCondition
from mindeye_pl.nn.clip.embeddings import Renormalisation, by_first_token
from mindeye_pl.types import (
    NonNegativeFloat,
    NonNegativeInt,
    PartLoss,
    PositiveInt,
    ProperFraction,
    PublishedOrCorrected,
)


class DiffusionPrior(Part):
    """Predicts clean tokens from noisy ones and the backbone's (MindEye2, spec section 4; MindEye1, 4.2 and 4.3).

    Args:
        num_tokens: S.
        token_dim: D.
        depth: transformer layers.
        head_dim: width of an attention head.
        heads: attention heads.
        timesteps: of the noise schedule.
        sample_steps: of sampling, unless the caller says otherwise.
        drop_probability: of the brain condition and, independently, of the noisy tokens, in the loss.
        condition: `sequence` (published) | `residual`, see `PriorNetwork`.
        target_scale: `one` (MindEye2) | `sqrt_width` (MindEye1), see `DiffusionPriorModel`.
        renormalise: what is done to a sample before it is used. `none` (MindEye2) | `first_token` (MindEye1), see
            `by_first_token`.
        layout: `parallel` | `causal` (MindEye1's class-token model), see `PriorNetwork`, as for the three that follow.
        padding: tokens before the brain's.
        time_table: times with a learned embedding each.
        inner_norm: inside the feed-forward layers.
        weight_decay: AdamW's.
        gain_decay: `published` | `corrected`.
    """

    network: DiffusionPriorModel

    def __init__(
        self,
        num_tokens: PositiveInt,
        token_dim: PositiveInt,
        *,
        depth: PositiveInt = 6,
        head_dim: PositiveInt = 52,
        heads: PositiveInt = 32,
        timesteps: PositiveInt = 100,
        sample_steps: PositiveInt = 20,
        drop_probability: ProperFraction = 0.2,
        condition: PriorCondition = "sequence",
        target_scale: TargetScale = "one",
        renormalise: Renormalisation = "none",
        layout: Layout = "parallel",
        padding: NonNegativeInt = 0,
        time_table: NonNegativeInt = 0,
        inner_norm: bool = False,
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
    ):
        assert renormalise in get_args(Renormalisation), renormalise
        network = DiffusionPriorModel(
            num_tokens,
            token_dim,
            depth=depth,
            head_dim=head_dim,
            heads=heads,
            timesteps=timesteps,
            drop_probability=drop_probability,
            condition=condition,
            target_scale=target_scale,
            layout=layout,
            padding=padding,
            time_table=time_table,
            inner_norm=inner_norm,
        )
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)
        self.sample_steps = sample_steps
        self.renormalise = renormalise

    def compute_loss(self, tokens: Tensor, targets: Tensor, *, scale: float = 1.0) -> PartLoss:
        """Mean squared error of the clean tokens at random times; conditions are dropped in validation too.

        Args:
            tokens: `(B, S, D)` backbone tokens; the gradient flows into them.
            targets: `(B, S, D)` target tokens.
            scale: weight of the loss.
        """
        loss, prediction = self.network.loss(targets, tokens)
        loss = scale * loss
        return PartLoss(loss, {"prior": loss.detach()}, {"prior_tokens": prediction / self.network.scale})

    def denoise(self, noisy: Tensor, times: Tensor, tokens: Tensor, drop_conditions: bool = False) -> Tensor:
        """Noisy tokens `(B, S, D)` at integer `times` `(B,)` to predicted clean tokens `(B, S, D)`."""
        return self.network.denoise(noisy, times, tokens, drop_conditions=drop_conditions)

    def sample(
        self,
        tokens: Tensor,
        steps: int | None = None,
        cond_scale: float = 1.0,
        noise: Tensor | Iterable[Tensor] | None = None,
        samples: int = 1,
    ) -> Tensor:
        """Prior tokens `(B, S, D)` for backbone tokens `(B, S, D)`, at the targets' scale and not yet renormalised.

        Args:
            tokens: the condition.
            steps: of the published DDIM; as many as the schedule has are the full DDPM.
            cond_scale: classifier-free guidance, 1 for none.
            noise: standard-normal draws `(n, B, S, D)` in the order in which they are consumed, the start first.
            samples: that are averaged. One alone, as published, has errors of its own; the mean of several is nearer to
                what the brain says and less sure of the rest.
        """
        draws = None if noise is None else iter(noise)  # one after the other, not the same for each sample
        steps = steps or self.sample_steps
        drawn = [self.network.sample(tokens, steps=steps, cond_scale=cond_scale, noise=draws) for _ in range(samples)]
        return torch.stack(drawn).mean(0) if samples > 1 else drawn[0]

    def renormalised(self, tokens: Tensor) -> Tensor:
        """Sampled tokens `(B, S, D)` as the image's generator takes them, `(B, S, D)`."""
        return by_first_token(tokens) if self.renormalise == "first_token" else tokens
