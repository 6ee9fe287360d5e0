"""The one training loop, used by pretraining and fine-tuning alike."""

import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import agree, on_main_process, wait_for_all
from mindeye_pl.distributed.strategies import full_weights, shards_weights, strategy_name, trainer_options
from mindeye_pl.engine.observer import StepLog
from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.run import LAST, LOWEST, Keep
from mindeye_pl.training.callbacks.best_weights import LowestLoss
from mindeye_pl.training.callbacks.checkpoint_io import AtomicCheckpointIO
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.history import History
from mindeye_pl.training.callbacks.log_training import TrackTraining
from mindeye_pl.training.callbacks.progress import PlainWords
from mindeye_pl.training.checkpoints import WEIGHTS, save_weights

HISTORY = "history.json"

#: Configuration nodes that say how a training runs; they change nothing in the weights (`determined_by_trainer`).
TRAINER_KEYS = ("trainer", "callbacks", "logger")


@dataclass(frozen=True)
class TrainingSettings:
    """How a training runs, whatever is trained.

    Attributes:
        trainer: node of the configuration.
        callbacks: node of the configuration.
        seed: of the draws of every epoch.
    """

    trainer: DictConfig
    callbacks: DictConfig
    seed: int

    @classmethod
    def of(cls, settings: Any) -> Self:
        """Return the settings of a configuration, or of a step's part of one."""
        return cls(settings.trainer, settings.callbacks, settings.seed)


def fit(
    model: LightningModule,
    data: LightningDataModule,
    folder: Path,
    settings: TrainingSettings,
    *,
    epochs: int,
    title: str,
    keep: Keep = LAST,
    callbacks: Sequence[Callback] = (),
    log: StepLog | None = None,
    save: Callable[[], None] | None = None,
) -> None:
    """Train `model`, resuming from the checkpoint in `folder` if a killed run left one, and write its weights there.

    Args:
        model: freshly initialised; a checkpoint replaces its weights.
        data: the data module.
        folder: work folder of the step.
        settings: how.
        epochs: of training.
        title: for the user.
        keep: the weights after the last epoch, or after the one with the lowest validation loss.
        callbacks: beside those of every training.
        log: receives the metrics.
        save: writes the trained weights; None writes the whole model's. The checkpoint stays until this is done.

    Raises:
        UserError: for weights that `save` cannot write because no rank holds them all.
    """
    if save is not None and shards_weights(strategy := settings.trainer.get("strategy", "auto")):
        raise UserError("this model is not trained in shards", got=strategy_name(strategy), fix="trainer.strategy=ddp")
    silence_lightning()
    # Tensor cores for float32 on GPUs, as the published code asks for.
    torch.set_float32_matmul_precision("high" if settings.trainer.accelerator == "gpu" else "highest")
    # `trainer.deterministic` would fill every new tensor with NaN, in case somebody reads it before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    history = History(folder / HISTORY)
    all_callbacks: list[Callback] = [
        EpochSeed(settings.seed),
        history,
        PlainWords(title),
        ModelCheckpoint(
            folder,
            filename=LAST,
            every_n_epochs=settings.callbacks.checkpoint_every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    lowest = LowestLoss(folder / f"{LOWEST}.ckpt")
    all_callbacks += [*callbacks, *([lowest] if keep == LOWEST else [])]
    if log is not None and log.enabled:
        all_callbacks.append(TrackTraining(log.log, history, settings.trainer.log_every_n_steps))
    if progress := bool(settings.callbacks.progress_bar and console.is_terminal):
        all_callbacks.append(RichProgressBar(leave=False, console_kwargs={"soft_wrap": True}))
    checkpoint = folder / f"{LAST}.ckpt"
    options = trainer_options(settings)
    if getattr(data, "growth", None) is not None:
        options["reload_dataloaders_every_n_epochs"] = 1
    trainer: Trainer = instantiate(
        settings.trainer,
        max_epochs=epochs,
        callbacks=all_callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        default_root_dir=str(folder),
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the project's samplers know their rank
        num_sanity_val_steps=0,
        _convert_="all",
        **options,
    )
    resumed = str(checkpoint) if agree(checkpoint.exists()) else None
    trainer.fit(model, datamodule=data, ckpt_path=resumed, weights_only=True)
    if keep == LOWEST:
        model.load_state_dict(lowest.weights())
    weights = full_weights(trainer)

    def finish() -> None:
        if save is None:
            save_weights(model, folder / WEIGHTS, weights)
        else:
            save()
        _remove(checkpoint)  # fewer epochs than between two checkpoints leave none
        _remove(lowest.path)  # last: a training that resumes from the checkpoint needs it

    wait_for_all()  # every rank has read the checkpoints
    on_main_process(finish)


#: Lightning's warnings about what is so on purpose.
_ON_PURPOSE = (
    "Checkpoint directory .* exists and is not empty",  # the work folder of a killed run
    "Found .* module.* in eval mode at the start of training",  # a frozen VAE beside the UNet that learns
    "It is recommended to use .self.log.'validation/.*sync_dist=True",  # every rank validates on all images
    "Total length of .* across ranks is zero",  # the data module says of its own why there is no validation
    "The .*dataloader.* does not have many workers",  # betas are in memory: a batch costs a copy
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged too
    "`isinstance.treespec, LeafSpec.` is deprecated",
)


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint, which is a folder where each rank wrote its own part."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def silence_lightning() -> None:
    """Leaves the words about training to `PlainWords`."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _ON_PURPOSE:
        warnings.filterwarnings("ignore", message)
