"""Adversarial training of a generator conditioned on embeddings (Mind Reader, spec sections 5 to 7).

Legend: B batch, E width of an embedding, C captions of an image, P side of an image, L layers, W width of their
intermediate latents.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mindeye_pl.errors import UserError
from mindeye_pl.losses.gan import (
    discriminator_loss,
    generator_loss,
    lazy_adam,
    path_length_batch,
    path_length_penalty,
    r1_penalty,
)
from mindeye_pl.losses.gan_contrastive import log_match, mean_log_match, perturb
from mindeye_pl.metrics.fid import fid
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.models.gan.objective import DISCRIMINATOR, GENERATOR, PATH_LENGTH, R1, AdversarialObjective
from mindeye_pl.nn.clip.embeddings import draw_caption, mean_caption
from mindeye_pl.nn.stylegan2.conditions import select_conditions
from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.nn.stylegan2.mapping import draw_cut, mix_styles
from mindeye_pl.types import ImageBatch, PartLoss

#: Image and caption embedding, `(B, E)` each.
Embeddings = tuple[Tensor, Tensor]

#: Network that a phase trains, and its loss.
NetworkAndLoss = tuple[nn.Module, Callable[[ImageBatch], PartLoss]]

#: Number of held-out images that are shown with the generated ones.
_SHOWN = 16

#: Clamp for infinite gradients.
_MAX_GRADIENT = 1e5


class AdversarialTraining(LightningModule):
    """Alternating steps of generator and discriminator, and a moving average of the generator, which is the result.

    A batch has `images` `(B, 3, P, P)` in [0, 1], `image` `(B, 1, E)`, their image embeddings, and `captions`
    `(B, C, E)`, their caption embeddings, all L2-normalised. Both networks are conditioned on these, as in Lafite's
    training on images with captions. `BrainConditioned` takes embeddings predicted from voxels.

    Args:
        embed: CLIP, frozen; the gradient flows through it to generated images.
    """

    iteration: Tensor  # (), counts steps of both networks together
    path_length: Tensor  # (), moving average

    def __init__(
        self, generator: Generator, discriminator: Discriminator, embed: nn.Module, objective: AdversarialObjective
    ):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator, self.objective = generator, discriminator, objective
        self.averaged = deepcopy(generator).requires_grad_(False).eval()
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))
        self.register_buffer("path_length", torch.zeros(()))
        self._frozen = [embed]  # in a list, so that it is not part of checkpoints
        self._seen: list[dict[str, Tensor]] = []
        self.shown: Tensor | None = None  # (n, 2, 3, P, P) real and generated, of the last validation

    def conditions(self, batch: ImageBatch) -> Embeddings:
        """Return the embeddings from which a batch's images are generated."""
        caption = draw_caption(batch["captions"]) if self.training else mean_caption(batch["captions"])
        return batch["image"].flatten(1), caption

    def _perturbed(self, batch: ImageBatch) -> Embeddings:
        image, caption = self.conditions(batch)
        weight = self.objective.perturbation
        return perturb(image, noise_weight=weight), perturb(caption, noise_weight=weight)

    def embed(self, images: Tensor) -> Tensor:
        """Return CLIP's embedding `(B, E)` of images `(B, 3, P, P)` in [-1, 1], in float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self._frozen[0]((images.float() + 1) / 2).flatten(1)

    def on_fit_start(self) -> None:
        """Move CLIP to the networks' device; refuse several, because the losses compare all images of a batch."""
        if self.trainer.world_size > 1:
            got = f"{self.trainer.world_size} devices"
            raise UserError("a generator is trained on one device", got=got, fix="trainer.devices=1")
        self._frozen[0].to(self.device)

    def training_step(self, batch: ImageBatch, batch_index: int) -> None:
        """Run one iteration of both networks, with the regularisers that are due."""
        optimizers = dict(zip(self.networks(), self.optimizers(), strict=True))
        totals: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        networks_and_losses = self.networks_and_losses()
        for phase in self.phases():
            network, compute_loss = networks_and_losses[phase]
            with self._learning(network):
                loss = compute_loss(batch)
                optimizers[network].zero_grad()
                self.manual_backward(loss.total)
                _clamp_gradients(network)
                optimizers[network].step()
            totals.append(loss.total.detach())
            parts |= loss.parts
        self.iteration += 1
        self._average(len(batch))
        # The sum of two opposed losses need not decrease.
        named = PartLoss(torch.stack(totals).sum(), parts).named("train")
        self.log_dict(named, on_step=True, on_epoch=True, batch_size=len(batch))

    def networks_and_losses(self) -> dict[str, NetworkAndLoss]:
        """Return each phase's network and loss, in the order of the networks' optimisers."""
        return {
            GENERATOR: (self.generator, self.generator_loss),
            PATH_LENGTH: (self.generator, self.path_length_loss),
            DISCRIMINATOR: (self.discriminator, self.discriminator_loss),
            R1: (self.discriminator, self.r1_loss),
        }

    def networks(self) -> list[nn.Module]:
        """Return all networks that are trained, in the order of their optimisers."""
        return list(dict.fromkeys(network for network, _ in self.networks_and_losses().values()))

    def phases(self) -> tuple[str, ...]:
        """Return the phases of the next iteration."""
        return self.objective.phases(int(self.iteration))

    @contextmanager
    def _learning(self, network: nn.Module) -> Iterator[None]:
        """Enable the gradients of one network only; gradients still flow through the others."""
        for each in self.networks():
            each.requires_grad_(each is network)
        yield
        for each in self.networks():
            each.requires_grad_(True)

    def generator_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the generator's loss: realness, and the match with the embeddings by discriminator and CLIP."""
        objective, embeddings = self.objective, self._perturbed(batch)
        generated = self.generator.synthesise(self._styles(len(batch)), *embeddings)
        output = self.discriminator(generated, *embeddings)
        conditions = select_conditions(self.discriminator.condition, *embeddings)
        heads = -objective.head_scale * self._match(output.semantics, conditions)
        parts = {"generator_logits": generator_loss(output.logits), "generator_heads": heads}
        if objective.clip_scale or objective.image_scale:
            seen = self.embed(self._cropped(generated))  # (B, E)
            parts["generator_clip"] = -objective.clip_scale * self._match([seen] * len(conditions), conditions)
            if objective.image_scale:
                parts["generator_image"] = -objective.image_scale * self._match([seen], [batch["image"].flatten(1)])
        if objective.real_scale:
            real = self.discriminator(2 * batch["images"] - 1, *embeddings).semantics
            parts["generator_real"] = -objective.real_scale * self._match(real, output.semantics)
        return _summed(parts)

    def path_length_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the path length penalty on a part of the batch."""
        objective, count = self.objective, path_length_batch(len(batch))
        image, caption = (condition[:count] for condition in self._perturbed(batch))
        styles = self._styles(count)
        if not styles.requires_grad:
            styles.requires_grad_(True)
        penalty = path_length_penalty(
            self.generator.synthesise(styles, image, caption),
            styles,
            self.path_length,
            weight=objective.path_length_weight,
            decay=objective.path_length_decay,
            interval=objective.path_length_interval,
        )
        self.path_length.copy_(penalty.average)
        return _summed({PATH_LENGTH: penalty.loss})

    def discriminator_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the discriminator's loss: real against generated images, and the real images' match."""
        embeddings = self._perturbed(batch)
        with torch.no_grad():
            generated = self.generator.synthesise(self._styles(len(batch)), *embeddings)
        output = self.discriminator(generated, *embeddings)
        real = self.discriminator(2 * batch["images"] - 1, *embeddings)
        conditions = select_conditions(self.discriminator.condition, *embeddings)
        heads = -self.objective.head_scale * self._match(real.semantics, conditions)
        logits = discriminator_loss(real.logits, output.logits)
        return _summed({"discriminator_logits": logits, "discriminator_heads": heads})

    def r1_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the R1 gradient penalty on real images."""
        images = (2 * batch["images"] - 1).requires_grad_(True)
        logits = self.discriminator(images, *self._perturbed(batch)).logits
        gamma = self.objective.gamma(images.shape[-1], len(batch))
        return _summed({R1: r1_penalty(logits, images, gamma=gamma, interval=self.objective.r1_interval)})

    def _match(self, firsts: Any, seconds: Any) -> Tensor:
        return mean_log_match(firsts, seconds, temperature=self.objective.temperature, lam=self.objective.lam)

    def _styles(self, count: int) -> Tensor:
        """Return intermediate latents `(B, L, W)` for training."""
        generator, latents = self.generator, self.objective.latents
        shape = (count, generator.mapping.latent_dim)
        main = torch.randn(shape, device=self.device) if latents == "random" else self.path_length.new_zeros(shape)
        styles = generator.styles(main)
        if latents == "zeros":
            return styles
        cut = draw_cut(generator.num_layers, probability=self.objective.mixing_probability)
        if cut == generator.num_layers:
            return styles
        return mix_styles(styles, generator.styles(torch.randn(shape, device=self.device)), cut)

    def _cropped(self, images: Tensor) -> Tensor:
        """Return a random square crop, the same for all images, at the images' size."""
        size, smallest = images.shape[-1], self.objective.smallest_crop
        side = int(size * (smallest + (1 - smallest) * float(torch.rand(()))))
        top, left = (int(torch.randint(0, size - side + 1, ())) for _ in range(2))
        crop = images[..., top : top + side, left : left + side]
        return F.interpolate(crop.float(), size=(size, size), mode="bicubic")

    @torch.no_grad()
    def _average(self, batch_size: int) -> None:
        decay = self.objective.average_decay(batch_size, int(self.iteration) * batch_size)
        for averaged, newest in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
            averaged.lerp_(newest, 1 - decay)
        for kept, newest_buffer in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(newest_buffer)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for each network, corrected for lazy regularisation."""
        objective, lr = self.objective, self.objective.learning_rate
        intervals = {self.generator: objective.path_length_interval, self.discriminator: objective.r1_interval}
        return [Adam(network.parameters(), **lazy_adam(interval, lr=lr)) for network, interval in intervals.items()]

    @torch.no_grad()
    def validation_step(self, batch: ImageBatch, batch_index: int) -> None:
        """Generate images of held-out embeddings with the averaged generator, from fixed latents."""
        shape = (len(batch), self.averaged.mapping.latent_dim)
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(batch_index)).to(self.device)
        latents = drawn if self.objective.latents == "random" else torch.zeros_like(drawn)
        generated = self.averaged(latents, *self.conditions(batch), noise="fixed")
        seen = {"generated": self.embed(generated), "real": self.embed(2 * batch["images"] - 1)}
        if sum(len(rows["generated"]) for rows in self._seen) < _SHOWN:
            seen["pairs"] = torch.stack([batch["images"], ((generated + 1) / 2).clamp(0, 1)], 1)
        self._seen.append(seen)

    def on_validation_epoch_end(self) -> None:
        """Log FID to the held-out images and retrieval of their own images by generated ones, both in CLIP space."""
        if not self._seen:
            return
        generated, real = (torch.cat([rows[name] for rows in self._seen]) for name in ("generated", "real"))
        self.shown = torch.cat([rows["pairs"] for rows in self._seen if "pairs" in rows])[:_SHOWN].cpu()
        self._seen.clear()
        named = {
            "validation/image_retrieval": retrieval_accuracy(query=generated, gallery=real),
            "validation/pool_size": torch.tensor(float(len(generated))),
            "validation/clip": -log_match(generated, real, temperature=self.objective.temperature),
        }
        if len(generated) > 1:
            named["validation/fid"] = fid(generated.cpu(), real.cpu()).float()
        self.log_dict(named)


def _summed(parts: dict[str, Tensor]) -> PartLoss:
    return PartLoss(torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()})


def _clamp_gradients(network: nn.Module) -> None:
    """Replace NaN gradients by 0 and clamp infinite ones; both occur in rare steps in half precision."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=_MAX_GRADIENT, neginf=-_MAX_GRADIENT, out=parameter.grad)
