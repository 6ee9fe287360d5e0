"""Distillation of an unCLIP: a student of a few steps without guidance, from a teacher of many with it.

Sources: progressive distillation (Salimans and Ho 2022, arXiv:2202.00512), of guided models (Meng et al. 2023,
arXiv:2210.03142).

Legend: B batch, S tokens, D token width, C latent channels, h and w latent size, K steps of the student.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.models.foundation import Foundation
from mindeye_pl.nn.diffusion.regressed_tokens import RegressedTokens
from mindeye_pl.nn.diffusion.solvers import SOLVERS, integrate, training_sigmas
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import ImageBatch, PartLoss

#: Solver of the student; its latents have unit variance, so that the losses of all steps have about the same scale.
STUDENT_SOLVER = "ddim"


@dataclass(frozen=True)
class Teacher:
    """A frozen unCLIP with its sampler.

    It is no module, so that no checkpoint and no average of weights has it, and a copy of the student shares it.

    Attributes:
        network: the unCLIP, which knows the null tokens.
        guidance: classifier-free; 1 for none.
        steps: in each of the student's steps.
        solver: one of `SOLVERS` whose latents have unit variance.
    """

    network: UnCLIPModel
    guidance: float
    steps: int
    solver: str = "dpm_multistep"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        return self

    @torch.no_grad()
    def follow(self, latents: Tensor, tokens: Tensor, *, of: int, begin: int, end: int) -> Tensor:
        """Return the latents `(B, C, h, w)` at step `end` of a student that takes `of` steps, from those at `begin`."""
        if self.guidance != 1:
            tokens = torch.cat([self.network.random_uncond_tokens(tokens), tokens])
        vector = self.network.size_vector()

        def predict(scaled: Tensor, times: Tensor) -> Tensor:
            return self.network.denoise(scaled, times, tokens, vector)

        scheduler, steps = SOLVERS[self.solver](of * self.steps), (begin * self.steps, end * self.steps)
        return integrate(scheduler, latents, predict, guidance=self.guidance, begin=steps[0], end=steps[1])


@dataclass(frozen=True)
class Drafts:
    """Images that the student begins at, as it does at the blurry reconstruction of a brain.

    Attributes:
        share: probability that a batch begins at them.
        strength: fraction of the student's steps that are left, as of `Sampling`.
        regressed: makes of latents `(B, C, h * w)` what a regression from a brain would predict.
    """

    share: float
    strength: float
    regressed: RegressedTokens


class UnCLIPDistillation(Foundation):
    """Student whose every step lands where the teacher's steps over the same noise levels end.

    The student takes its own steps to where a training step begins, so that it learns to continue from its own errors.
    A batch is at one noise level, and the student's loss is the squared error of its landing.

    Args:
        network: the student, which starts from the teacher's weights.
        teacher: the frozen teacher.
        steps: K.
        offset: amplitude of the offset noise in the start.
        drafts: images that some batches begin at; None for noise alone.
        regressed: replaces some of the images' tokens, so that the student can read those of a brain.
        checkpointing: saves memory in the UNet by gradient checkpointing, which takes time.
        settings: those of `Foundation`.
    """

    network: UnCLIPModel

    def __init__(
        self,
        network: UnCLIPModel,
        teacher: Teacher,
        *,
        steps: int,
        offset: float = 0.0,
        drafts: Drafts | None = None,
        regressed: RegressedTokens | None = None,
        checkpointing: bool = False,
        **settings: Any,
    ):
        super().__init__(network, **settings)
        self.teacher, self.steps, self.offset, self.regressed, self.drafts = teacher, steps, offset, regressed, drafts
        self.regressed_latents = drafts and drafts.regressed  # a module, which moves to the device
        self.draft_step = steps - min(int(steps * drafts.strength), steps) if drafts else 0
        times = SOLVERS[STUDENT_SOLVER](steps).timesteps[[0, self.draft_step]]
        self._sigmas = training_sigmas()[times].tolist()  # of noise and of drafts, on the host
        teacher.network.requires_grad_(False).eval()
        network.requires_grad_(False)
        network.unet.requires_grad_(True).train()
        for one in (network, teacher.network):
            # A third less time for a pass on the CPU. The library's decorator hides the method's arguments.
            one.unet.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
        if network.token_positions is not None:
            network.token_positions.requires_grad_(True)
        if checkpointing:
            network.unet.enable_gradient_checkpointing()

    def on_fit_start(self) -> None:
        """Move the teacher, which is no module of this one."""
        self.teacher.network.to(self.device)

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of `tokens` `(B, S, D)`, and of the VAE's `moments` `(B, 2 C, h * w)` where drafts need them.

        In training it is that of one step, on held-out images the squared distance between the latents that student
        and teacher draw from the same noise.
        """
        tokens = batch["tokens"]
        if not self.training:
            noise = torch.randn(len(tokens), *self.network.latent_shape, device=tokens.device)
            start = self._noised(noise, self._sigmas[0])
            drawn = self.follow(start, tokens, begin=0, end=self.steps)
            return PartLoss(F.mse_loss(drawn, self._taught(start, tokens, 0, self.steps)))
        if self.regressed is not None:
            tokens = self.regressed(tokens)
        step = random.randrange(self.steps)  # on the host: the device need not be asked
        with torch.no_grad():
            latents = self._begin(batch, tokens, step)
            target = self._taught(latents, tokens, step, step + 1)
        landed = self.follow(latents, tokens, begin=step, end=step + 1)
        return PartLoss(F.mse_loss(landed, target))

    def follow(self, latents: Tensor, tokens: Tensor, *, begin: int, end: int) -> Tensor:
        """Return the student's latents `(B, C, h, w)` at step `end`, from those at `begin`."""
        vector = self.network.size_vector()

        def predict(scaled: Tensor, times: Tensor) -> Tensor:
            return self.network.denoise(scaled, times, tokens, vector)

        return integrate(SOLVERS[STUDENT_SOLVER](self.steps), latents, predict, guidance=1, begin=begin, end=end)

    def _taught(self, latents: Tensor, tokens: Tensor, begin: int, end: int) -> Tensor:
        return self.teacher.follow(latents, tokens, of=self.steps, begin=begin, end=end)

    def _begin(self, batch: ImageBatch, tokens: Tensor, step: int) -> Tensor:
        """Return the student's own latents at `step`, from noise or from drafts."""
        shape, first, sigma = (len(tokens), *self.network.latent_shape), 0, self._sigmas[0]
        if self.drafts and step >= self.draft_step and random.random() < self.drafts.share:
            first, sigma = self.draft_step, self._sigmas[1]
            mean = batch["moments"].chunk(2, dim=1)[0] * self.network.vae.config["scaling_factor"]
            latents = self.drafts.regressed(mean).view(shape)
        else:
            latents = torch.randn(shape, device=tokens.device)
        return self.follow(self._noised(latents, sigma), tokens, begin=first, end=step)

    def _noised(self, latents: Tensor, sigma: float) -> Tensor:
        """Return latents `(B, C, h, w)` of unit variance with noise of the ratio `sigma` to the signal."""
        noise = torch.randn_like(latents) + self.offset * torch.randn(len(latents), 1, 1, 1, device=latents.device)
        return (latents + sigma * noise) / (1 + sigma**2) ** 0.5
