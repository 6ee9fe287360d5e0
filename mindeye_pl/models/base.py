"""What every composite of stages shares: one optimiser step for all parts, logging, freezing."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.models.parts.part import Part
from mindeye_pl.nn.brain.alignment import PerSubjectLinear, VoxelCounts
from mindeye_pl.sharing.shareable import Shareable
from mindeye_pl.types import BatchGrowth, BrainBatch, PartLoss, Prediction

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]


class BrainDecoder(Shareable, LightningModule):
    """Stages trained together; subclasses say what they compute, this class trains and logs them.

    Every composite answers `forward`, `compute_loss` and `reconstruct`, so that pipelines and evaluation are written
    once.

    Args:
        optimizer: makes the optimiser from parameter groups.
        scheduler: makes the schedule, stepped once for each optimiser step, from
            `(optimizer, epochs=, iterations_per_epoch=)`; the latter is a list, a number for each epoch, where batches
            grow.
    """

    def __init__(self, optimizer: OptimizerFactory | None, scheduler: SchedulerFactory | None):
        super().__init__()
        self._optimizer, self._scheduler = optimizer, scheduler

    # what a system defines

    @abstractmethod
    def forward(self, voxels: Sequence[Tensor], subject_index: Sequence[int]) -> Prediction:
        """Voxels of one or more subjects to everything that is read from them."""

    @abstractmethod
    def compute_loss(self, batch: BrainBatch, *, epoch: int, num_epochs: int) -> PartLoss:
        """The training loss in train mode, the validation loss in eval mode."""

    @abstractmethod
    def reconstruct(self, voxels: Tensor, subject_index: int = 0) -> Tensor:
        """Voxels `(B, V)` of one subject to what an image is made from."""

    # what a system may define

    def batch_growth(self, num_epochs: int) -> BatchGrowth | None:
        """When the batches of a training of so many epochs grow; None where they stay as they are."""
        return None

    @classmethod
    def voxel_counts_in(cls, weights: Mapping[str, Tensor]) -> list[int]:
        """V of each subject of a state dict of this system, in the order of the indices; empty if it does not tell."""
        counts: list[int] = []
        while (linear := weights.get(f"alignment.network.linears.{len(counts)}.weight")) is not None:
            counts.append(linear.shape[1])
        return counts

    def retrieval_scores(self, batch: BrainBatch, loss: PartLoss) -> dict[str, Tensor]:
        """What validation logs of retrieval among the images of a batch, by name."""
        if (retrieval := loss.outputs.get("retrieval")) is None:
            return {}
        brain, clip = retrieval.flatten(1), batch.tokens.flatten(1)
        return {
            "image_retrieval": retrieval_accuracy(query=brain, gallery=clip),
            "brain_retrieval": retrieval_accuracy(query=clip, gallery=brain),
            "pool_size": torch.tensor(float(len(batch))),
        }

    # what all systems share

    @property
    def voxel_counts(self) -> list[int]:
        """V of each subject that it was trained for."""
        return self.voxel_counts_in(self.state_dict())

    def parts(self) -> dict[str, Part]:
        """The parts by name, in the order of the optimiser groups."""
        return {name: module for name, module in self.named_children() if isinstance(module, Part)}

    def alignment_prefixes(self) -> tuple[str, ...]:
        """What the names of weights that read one subject's voxels begin with."""
        own = (PerSubjectLinear, VoxelCounts)
        return tuple(f"{name}." for name, module in self.named_modules() if isinstance(module, own))

    def freeze_all_but(self, trainable: str | Sequence[str]) -> None:
        """Leaves only the named parts trainable; the others stop learning and run without dropout.

        Raises:
            UserError: for a name that is no part of this system.
        """
        names = list(self.parts()) if trainable == "all" else [trainable] if isinstance(trainable, str) else trainable
        for name in names:
            if name not in self.parts():
                raise UserError(
                    "finetune.trainable names no part", got=name, expected=f"all, or some of {list(self.parts())}"
                )
        for name, stage in self.parts().items():
            stage.requires_grad_(name in names)

    @torch.no_grad()
    def predict(self, voxels: Tensor, subject_index: int = 0) -> Prediction:
        """Voxels `(B, V)` of one subject to everything that is read from them, in the module's current mode."""
        return self([voxels], [subject_index])

    def on_train_epoch_start(self) -> None:
        """Frozen parts run as they will be used: no dropout."""
        for stage in self.parts().values():
            stage.train(any(p.requires_grad for p in stage.parameters()))

    def training_step(self, batch: BrainBatch, batch_index: int) -> Tensor:
        """One step; logs the total and each part under its own name."""
        loss = self.compute_loss(batch, epoch=self.current_epoch, num_epochs=self.trainer.max_epochs or 1)
        named = {"train/loss": loss.total.detach()} | {f"train/{name}": part for name, part in loss.parts.items()}
        self.log_dict(named, on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss.total

    def on_train_epoch_end(self) -> None:
        """Stops with one line when the loss is no longer a number."""
        loss = self.trainer.callback_metrics.get("train/loss_epoch")
        if loss is not None and not torch.isfinite(loss):
            raise UserError(
                f"the training loss in epoch {self.current_epoch + 1} is not finite",
                got=float(loss),
                expected="a number",
                fix="trainer.precision=32-true, or a lower scale.max_lr",
            )

    def validation_step(self, batch: BrainBatch, batch_index: int) -> None:
        """Loss and retrieval among the images of the batch."""
        loss = self.compute_loss(batch, epoch=self.current_epoch, num_epochs=self.trainer.max_epochs or 1)
        named = {"validation/loss": loss.total} | {f"validation/{name}": part for name, part in loss.parts.items()}
        named |= {f"validation/{name}": score for name, score in self.retrieval_scores(batch, loss).items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch), add_dataloader_idx=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The stages' groups in one optimiser, the schedule stepped with it."""
        assert self._optimizer is not None
        assert self._scheduler is not None
        groups = [group for stage in self.parts().values() for group in stage.parameter_groups()]
        optimizer = self._optimizer(groups)
        epochs = self.trainer.max_epochs or 1
        scheduler = self._scheduler(optimizer, epochs=epochs, iterations_per_epoch=self._iterations(epochs))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _iterations(self, epochs: int) -> int | list[int]:
        """Optimiser steps of each epoch, one number where it is the same for all."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "growth", None) is None:
            return int(self.trainer.estimated_stepping_batches) // epochs
        # Lightning's estimate knows the present epoch's batches alone.
        batches = data.batches_of_epochs(epochs, self.trainer.world_size)
        return [ceil(count / self.trainer.accumulate_grad_batches) for count in batches]
