"""The diffusion prior: backbone tokens to clean target tokens.

Legend: B batch, S tokens, D token width.
"""

from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor

from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.diffusion_prior import DiffusionPriorModel
from mindeye_pl.nn.clip.embeddings import Renormalisation, by_first_token
from mindeye_pl.types import NonNegativeFloat, PartLoss, PositiveInt, PublishedOrCorrected


class DiffusionPrior(Part):
    """Prediction of clean tokens from noisy and backbone tokens (MindEye2, spec section 4; MindEye1, 4.2 and 4.3).

    Args:
        sample_steps: default number of sampling steps.
        renormalise: normalisation of a sample before use. `none` (MindEye2) | `first_token` (MindEye1), see
            `by_first_token`.
    """

    network: DiffusionPriorModel

    def __init__(
        self,
        network: DiffusionPriorModel,
        *,
        sample_steps: PositiveInt = 20,
        renormalise: Renormalisation = "none",
        weight_decay: NonNegativeFloat = 1e-2,
        gain_decay: PublishedOrCorrected = "published",
    ):
        assert renormalise in get_args(Renormalisation), renormalise
        super().__init__(network, weight_decay=weight_decay, gain_decay=gain_decay)
        self.sample_steps, self.renormalise = sample_steps, renormalise

    def compute_loss(self, tokens: Tensor, targets: Tensor, *, scale: float = 1.0) -> PartLoss:
        """Return the mean squared error of the clean tokens at random times, in validation too with dropped conditions.

        The gradient flows into the backbone tokens `(B, S, D)`; `scale` is the weight of the loss.
        """
        error, prediction = self.network.loss(targets, tokens)
        loss = scale * error
        return PartLoss(loss, {"prior": loss.detach()}, {"prior_tokens": prediction / self.network.scale})

    def denoise(self, noisy: Tensor, times: Tensor, tokens: Tensor, drop_conditions: bool = False) -> Tensor:
        """Predict clean tokens `(B, S, D)` from noisy tokens `(B, S, D)` at integer `times` `(B,)`."""
        return self.network.denoise(noisy, times, tokens, drop_conditions=drop_conditions)

    def sample(
        self,
        tokens: Tensor,
        steps: int | None = None,
        cond_scale: float = 1.0,
        noise: Tensor | Iterable[Tensor] | None = None,
        samples: int = 1,
    ) -> Tensor:
        """Sample prior tokens `(B, S, D)` at the targets' scale, not renormalised.

        Args:
            tokens: `(B, S, D)` backbone tokens, the condition.
            steps: of the published DDIM; the schedule's number of timesteps selects the full DDPM.
            cond_scale: classifier-free guidance, 1 for none.
            noise: standard-normal draws `(n, B, S, D)` in the order of their use, the starting point first.
            samples: number of samples that are averaged; 1 as published. The mean of several has a smaller error and
                less detail.
        """
        draws = None if noise is None else iter(noise)  # one iterator, so that the samples differ
        steps = steps or self.sample_steps
        drawn = [self.network.sample(tokens, steps=steps, cond_scale=cond_scale, noise=draws) for _ in range(samples)]
        return torch.stack(drawn).mean(0) if samples > 1 else drawn[0]

    def renormalised(self, tokens: Tensor) -> Tensor:
        """Return sampled tokens `(B, S, D)` in the normalisation that the image decoder reads."""
        return by_first_token(tokens) if self.renormalise == "first_token" else tokens
