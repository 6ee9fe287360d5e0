"""The generator fine-tuned on embeddings that mappers read from brains (Mind Reader, spec section 7).

Legend: B batch, V voxels, C captions, E width of an embedding, P side of an image.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from mindeye_pl.losses.gan import generator_loss
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.gan.objective import AdversarialObjective
from mindeye_pl.models.gan.training import AdversarialTraining, Embeddings
from mindeye_pl.nn.stylegan2.discriminator import Discriminator
from mindeye_pl.nn.stylegan2.generator import Generator
from mindeye_pl.types import BrainBatch, ImageBatch, PartLoss

#: Whether the mappers learn with the generator (spec section 7.1).
Mappers = Literal["frozen", "trained"]

#: Of the mappers' own optimiser step, beside the phases of `AdversarialObjective`.
_PHASE = "mappers"


class BrainConditioned(AdversarialTraining):
    """Adversarial training on trials: images of what brains say, against the images that were seen.

    A batch also holds `voxels` `(B, V)` of one subject.

    Args:
        generator: see `AdversarialTraining`.
        discriminator: see there.
        embed: see there.
        objective: see there.
        composite: a trained `MindReader` of the subject.
        mappers: `frozen` (published); `trained` lets them learn with the generator, which the paper found worse.
        mapper_learning_rate: of Adam for them; 0.0025 in the published code, as for the other two networks.
        mapper_realness_scale: what it counts for them that their image is taken for real.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        embed: nn.Module,
        objective: AdversarialObjective,
        composite: BrainDecoder,
        *,
        mappers: Mappers = "frozen",
        mapper_learning_rate: float = 0.0025,
        mapper_realness_scale: float = 0.1,
    ):
        super().__init__(generator, discriminator, embed, objective)
        self.composite = composite.requires_grad_(mappers == "trained")
        self.mappers_learn = mappers == "trained"
        self.mapper_learning_rate, self.mapper_realness_scale = mapper_learning_rate, mapper_realness_scale

    def conditions(self, batch: ImageBatch) -> Embeddings:
        """What the mappers read from the voxels; they are frozen, or learn, as the phase has it."""
        tokens = self.composite([batch["voxels"]], [0]).tokens  # (B, 2, E), or (B, 1, E) of the image mapper alone
        return tokens[:, 0], tokens[:, -1]

    def networks(self) -> Sequence[nn.Module]:
        """All that may learn, the mappers last."""
        return [*super().networks(), *([self.composite] if self.mappers_learn else [])]

    def phases(self) -> tuple[str, ...]:
        """Those of the objective, and the mappers' behind them."""
        return super().phases() + ((_PHASE,) if self.mappers_learn else ())

    def learner(self, phase: str) -> nn.Module:
        """The mappers in a phase of their own."""
        return self.composite if phase == _PHASE else super().learner(phase)

    def compute_loss(self, phase: str, batch: ImageBatch) -> PartLoss:
        """See `AdversarialTraining`."""
        return self.mapper_loss(batch) if phase == _PHASE else super().compute_loss(phase, batch)

    def mapper_loss(self, batch: ImageBatch) -> PartLoss:
        """The mappers' own loss in its last stage, and whether what is made of their words looks real."""
        brains = BrainBatch(
            [batch["voxels"]],
            [0],
            torch.zeros(len(batch), dtype=torch.int64),
            batch["image"],
            captions=batch.rows.get("captions"),
        )
        loss = self.composite.compute_loss(brains, epoch=1, num_epochs=1)
        wanted = self._perturbed(batch)
        made = self.generator.synthesise(self._styles(len(batch)), *wanted)
        real = self.mapper_realness_scale * generator_loss(self.discriminator(made, *wanted).logits)
        return loss + PartLoss(real, {"mapper_realness": real.detach()})

    def configure_optimizers(self) -> list[Optimizer]:
        """One more for the mappers, where they learn."""
        of_mappers = [Adam(self.composite.parameters(), lr=self.mapper_learning_rate)] if self.mappers_learn else []
        return [*super().configure_optimizers(), *of_mappers]

    def on_train_epoch_start(self) -> None:
        """Frozen mappers run as they will be used."""
        self.composite.train(self.mappers_learn)
