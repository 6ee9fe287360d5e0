"""Fine-tuning of the generator on embeddings that mappers predict from voxels (Mind Reader, spec section 7).

Legend: B batch, V voxels, C captions, E width of an embedding, P side of an image.
"""

from typing import Literal

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from mindeye_pl.losses.gan import generator_loss
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.gan.objective import AdversarialObjective
from mindeye_pl.models.gan.training import AdversarialTraining, Embeddings, NetworkAndLoss
from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.types import BrainBatch, ImageBatch, PartLoss

#: Values of the option `mappers`: frozen, or trained together with the generator (spec section 7.1).
Mappers = Literal["frozen", "trained"]

#: Phase of the mappers' own optimiser step, in addition to the phases of `AdversarialObjective`.
_PHASE = "mappers"


class BrainConditioned(AdversarialTraining):
    """Adversarial training on trials: the conditions are predicted from voxels, the real images are the seen ones.

    A batch also has `voxels` `(B, V)` of one subject.

    Args:
        brain_decoder: trained; its first and last token are image and caption embedding, as in `MindReader`.
        mappers: `frozen` (published) | `trained` together with the generator, which the paper found worse.
        mapper_learning_rate: Adam's learning rate for the mappers; 0.0025 in the published code, as for both networks.
        mapper_realness_scale: weight in the mappers' loss of the discriminator's logits of their images.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        embed: nn.Module,
        objective: AdversarialObjective,
        brain_decoder: BrainDecoder,
        *,
        mappers: Mappers = "frozen",
        mapper_learning_rate: float = 0.0025,
        mapper_realness_scale: float = 0.1,
    ):
        super().__init__(generator, discriminator, embed, objective)
        self.brain_decoder = brain_decoder.requires_grad_(mappers == "trained")
        self.mappers_learn = mappers == "trained"
        self.mapper_learning_rate, self.mapper_realness_scale = mapper_learning_rate, mapper_realness_scale

    def conditions(self, batch: ImageBatch) -> Embeddings:
        """Return the embeddings that the mappers predict from the voxels, with a gradient if the phase trains them."""
        tokens = self.brain_decoder([batch["voxels"]], [0]).tokens  # (B, 2, E), or (B, 1, E) without caption mapper
        return tokens[:, 0], tokens[:, -1]

    def networks_and_losses(self) -> dict[str, NetworkAndLoss]:
        """Return each phase's network and loss, the trained mappers last."""
        of_mappers: dict[str, NetworkAndLoss] = {_PHASE: (self.brain_decoder, self.mapper_loss)}
        return super().networks_and_losses() | (of_mappers if self.mappers_learn else {})

    def phases(self) -> tuple[str, ...]:
        """Return the objective's phases and, after them, the mappers'."""
        return super().phases() + ((_PHASE,) if self.mappers_learn else ())

    def mapper_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the mappers' own loss in stage b, plus the generator's loss of the images drawn from their outputs."""
        targets = {"tokens": batch["image"]}
        if "captions" in batch.rows:
            targets["captions"] = batch["captions"]
        brains = BrainBatch([batch["voxels"]], [0], torch.zeros(len(batch), dtype=torch.int64), targets)
        loss = self.brain_decoder.compute_loss(brains, epoch=1, num_epochs=1)
        conditions = self._perturbed(batch)
        generated = self.generator.synthesise(self._styles(len(batch)), *conditions)
        real = self.mapper_realness_scale * generator_loss(self.discriminator(generated, *conditions).logits)
        return loss + PartLoss(real, {"mapper_realness": real.detach()})

    def configure_optimizers(self) -> list[Optimizer]:
        """Return the networks' optimisers and, if the mappers are trained, Adam for them."""
        of_mappers = [Adam(self.brain_decoder.parameters(), lr=self.mapper_learning_rate)] if self.mappers_learn else []
        return [*super().configure_optimizers(), *of_mappers]

    def on_train_epoch_start(self) -> None:
        """Set frozen mappers to eval mode."""
        self.brain_decoder.train(self.mappers_learn)
