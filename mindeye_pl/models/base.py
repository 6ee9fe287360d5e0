"""Base of all systems: one optimiser step for all parts, logging, freezing."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.adapters import merge_adapters
from mindeye_pl.nn.brain.alignment import AlignmentNetwork, PerSubject
from mindeye_pl.sharing.shareable import Shareable
from mindeye_pl.types import Averaging, BatchGrowth, BrainBatch, PartLoss, Prediction

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]

#: Weights of subject {} in an alignment, and their dimension of the voxels.
_VOXELS_OF_SUBJECT = (("alignment.network.linears.{}.weight", 1), ("alignment.network.voxels.embeddings.{}", 0))
#: Value of `finetune.trainable` for all parameters that belong to single subjects.
PER_SUBJECT = "per_subject"


class BrainDecoder(Shareable, LightningModule):
    """Base of systems, which read image tokens from voxels. A system is composed of parts that are trained together.

    The rest of the code uses a system through these methods and never tests for a class. A system must define `forward`
    and `compute_loss`. A system with a prior of its own also defines `sample_tokens`; one whose alignment is not an
    attribute `alignment` defines `voxel_counts_in`.

    Args:
        optimizer: makes the optimiser from parameter groups.
        scheduler: makes the schedule, stepped once per optimiser step, from
            `(optimizer, iterations_per_epoch=)`, a list with the optimiser steps of each epoch.
    """

    #: Averaging of an image's responses by the published code.
    published_averaging: ClassVar[Averaging] = "outputs"

    def __init__(self, optimizer: OptimizerFactory | None, scheduler: SchedulerFactory | None):
        super().__init__()
        self._optimizer, self._scheduler = optimizer, scheduler

    @abstractmethod
    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """Read one or more subjects' voxels, one `(b, V_s)` tensor per subject."""

    @abstractmethod
    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """Return the training loss in train mode, the validation loss in eval mode; epochs are counted from 0.

        Its output `retrieval` `(B, S, D)`, where present, is scored in validation.
        """

    def sample_tokens(self, tokens: Tensor, seeds: Sequence[int] | None = None, *, samples: int = 1) -> Tensor:
        """Return the tokens `(B, S, D)` that images are drawn from: samples of the system's prior, else `tokens`.

        Args:
            tokens: `(B, S, D)` of a `Prediction`, averaged over an image's responses.
            seeds: one per image, on which all random draws depend; None takes PyTorch's global generator.
            samples: number of the prior's samples that are averaged.
        """
        return tokens

    def batch_growth(self, num_epochs: int) -> BatchGrowth | None:
        """Return the growth of the batches in a training of `num_epochs`; None if they keep their size."""
        return None

    @classmethod
    def voxel_counts_in(cls, weights: Mapping[str, Tensor]) -> list[int]:
        """Return V of each subject in a state dict of this system, in index order; empty if no weight tells it."""
        counts: list[int] = []
        for name, dimension in _VOXELS_OF_SUBJECT:
            while (found := weights.get(name.format(len(counts)))) is not None:
                counts.append(found.shape[dimension])
        return counts

    def voxel_weights(self, subject_index: int = 0) -> Tensor | None:
        """Return the weights `(h, V)` of the linear map from one subject's voxels; None if the system has no such map.

        A system whose alignment is not an attribute `alignment` defines it anew.
        """
        network = getattr(getattr(self, "alignment", None), "network", None)
        return network.voxel_weights(subject_index) if isinstance(network, AlignmentNetwork) else None

    def retrieval_scores(self, batch: BrainBatch, loss: PartLoss) -> dict[str, Tensor]:
        """Return the retrieval scores among a validation batch's images, scalars by name."""
        if (retrieval := loss.outputs.get("retrieval")) is None:
            return {}
        brain, clip = retrieval.flatten(1), batch.targets["tokens"].flatten(1)
        return {
            "image_retrieval": retrieval_accuracy(query=brain, gallery=clip),
            "brain_retrieval": retrieval_accuracy(query=clip, gallery=brain),
            "pool_size": torch.tensor(float(len(batch))),
        }

    @property
    def voxel_counts(self) -> list[int]:
        """V of each subject, in index order."""
        return self.voxel_counts_in(self.state_dict())

    def subject_parameters(self) -> tuple[str, ...]:
        """Return the prefixes of all names in the state dict that belong to single subjects, each ending in a dot.

        A new subject keeps its own values of these when it starts from a pretrained model's weights.
        """
        return tuple(f"{name}." for name, module in self.named_modules() if isinstance(module, PerSubject))

    def parts(self) -> dict[str, Part]:
        """Return the parts by name, in the order of the optimiser groups."""
        return {name: module for name, module in self.named_children() if isinstance(module, Part)}

    def freeze_all_but(self, trainable: str | Sequence[str]) -> None:
        """Freeze all parts but the named ones, or none for "all"; raises a `UserError` for an unknown part.

        "per_subject" freezes all parameters that subjects share. Frozen parts run without dropout. A part that this
        system has without, as `low_level` None, may be named beside others.
        """
        parts = self.parts()
        if trainable == PER_SUBJECT:
            own = self.subject_parameters()
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith(own))
            return
        names = list(parts) if trainable == "all" else [trainable] if isinstance(trainable, str) else trainable
        unknown = [name for name in names if name not in parts and getattr(self, name, "") is not None]
        if unknown or not parts.keys() & set(names):
            expected = f"all, {PER_SUBJECT}, or some of {list(parts)}"
            raise UserError("finetune.trainable names no part", got=(unknown or names)[0], expected=expected)
        for name, part in parts.items():
            part.let_learn(name in names)

    def merge_adapters(self) -> None:
        """Merge the parts' adapters into their weights, so that the architecture is the configured one again."""
        for part in self.parts().values():
            merge_adapters(part.network)

    @torch.no_grad()
    def predict(self, voxels: Tensor, subject_index: int = 0) -> Prediction:
        """Read one subject's voxels `(B, V)`, without a gradient, in the module's current mode."""
        return self([voxels], [subject_index])

    def on_train_epoch_start(self) -> None:
        """Set frozen parts to eval mode, without dropout, as they are used later."""
        for part in self.parts().values():
            part.train(any(p.requires_grad for p in part.parameters()))

    def training_step(self, batch: BrainBatch, batch_index: int) -> Tensor:
        """Return the loss; log it and each of its parts."""
        loss = self.compute_loss(batch, epoch=self.current_epoch, num_epochs=self.trainer.max_epochs or 1)
        self.log_dict(loss.named("train"), on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss.total

    def validation_step(self, batch: BrainBatch, batch_index: int) -> None:
        """Log the loss and the retrieval scores among the batch's images."""
        loss = self.compute_loss(batch, epoch=self.current_epoch, num_epochs=self.trainer.max_epochs or 1)
        scores = {f"validation/{name}": score for name, score in self.retrieval_scores(batch, loss).items()}
        named = loss.named("validation") | scores
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch), add_dataloader_idx=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return one optimiser of all parts' groups, and its schedule, stepped with it."""
        assert self._optimizer is not None
        assert self._scheduler is not None
        groups = [group | {"part": name} for name, part in self.parts().items() for group in part.parameter_groups()]
        optimizer = self._optimizer(groups)
        optimizer.register_step_post_hook(self._correct_decay)
        scheduler = self._scheduler(optimizer, iterations_per_epoch=self._iterations(self.trainer.max_epochs or 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _correct_decay(self, optimizer: Optimizer, *_args: Any) -> None:
        for part in self.parts().values():
            part.correct_decay(optimizer)

    def _iterations(self, epochs: int) -> list[int]:
        """Return the optimiser steps of each epoch."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "growth", None) is None:
            return [int(self.trainer.estimated_stepping_batches) // epochs] * epochs
        # Lightning's estimate counts the current epoch's batches only.
        batches = data.batches_of_epochs(epochs, self.trainer.world_size)
        return [ceil(count / self.trainer.accumulate_grad_batches) for count in batches]
