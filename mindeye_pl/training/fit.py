"""The one training loop, used by pretraining and fine-tuning alike."""

import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from hydra.utils import instantiate
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import follows, started_here, together
from mindeye_pl.distributed.strategies import full_weights, shards_weights, strategy_name, trainer_options
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.run import LAST, LOWEST, Keep
from mindeye_pl.training.callbacks.best_weights import LowestLoss
from mindeye_pl.training.callbacks.checkpoint_io import AtomicCheckpointIO
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.history import History
from mindeye_pl.training.callbacks.log_training import Log, TrackTraining
from mindeye_pl.training.callbacks.progress import PlainWords
from mindeye_pl.training.checkpoints import WEIGHTS, save_weights

HISTORY = "history.json"


def fit(
    run: Run,
    step: Step,
    folder: Path,
    model: LightningModule,
    data: LightningDataModule,
    *,
    epochs: int,
    what: str,
    keep: Keep = LAST,
    more_callbacks: Sequence[Callback] = (),
    save: Callable[[], None] | None = None,
) -> None:
    """Trains `model`, going on from the checkpoint in `folder` if a killed run left one, and writes its weights there.

    Args:
        run: the run that this belongs to.
        step: the step being made.
        folder: the step's work folder.
        model: freshly initialised; the checkpoint overrules it.
        data: the data module.
        epochs: of training.
        what: for the words that the user reads.
        keep: the weights after the last epoch, or after the one with the lowest validation loss.
        more_callbacks: beside those of every training.
        save: writes the trained weights; None writes the whole model's. The checkpoint stays until this is done.

    Raises:
        UserError: for weights that `save` cannot write because no rank holds them all.
    """
    config = run.config
    if save is not None and shards_weights(strategy := config.trainer.get("strategy", "auto")):
        raise UserError(
            f"{step.name} is not trained in shards", got=strategy_name(strategy), fix="trainer.strategy=ddp"
        )
    hush_lightning()
    # Tensor cores for float32 on GPUs, as the published code asks for.
    torch.set_float32_matmul_precision("high" if config.trainer.accelerator == "gpu" else "highest")
    # `trainer.deterministic` would fill every new tensor with NaN, in case somebody reads it before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    history = History(folder / HISTORY)
    callbacks: list[Callback] = [
        EpochSeed(config.seed),
        history,
        PlainWords(what),
        ModelCheckpoint(
            folder,
            filename=LAST,
            every_n_epochs=config.callbacks.checkpoint_every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    lowest = LowestLoss(folder / f"{LOWEST}.ckpt")
    callbacks += [*more_callbacks, *([lowest] if keep == LOWEST else [])]
    if log := _log(run, step):
        callbacks.append(TrackTraining(log, history, config.trainer.log_every_n_steps))
    if progress := bool(config.callbacks.progress_bar and console.is_terminal):
        callbacks.append(RichProgressBar(leave=False, console_kwargs={"soft_wrap": True}))
    checkpoint = folder / f"{LAST}.ckpt"
    with together(run, step, folder, going_on=checkpoint.exists()) as agreed:
        options = trainer_options(config, started_here=started_here())
        options["plugins"].append(AtomicCheckpointIO())
        if getattr(data, "growth", None) is not None:
            options["reload_dataloaders_every_n_epochs"] = 1
        trainer: Trainer = instantiate(
            config.trainer,
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            default_root_dir=str(folder),
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the project's samplers know their rank
            num_sanity_val_steps=0,
            _convert_="all",
            **options,
        )
        going_on = str(checkpoint) if agreed["going_on"] else None
        trainer.fit(model, datamodule=data, ckpt_path=going_on, weights_only=True)
        if keep == LOWEST:
            model.load_state_dict(lowest.weights())
        weights = full_weights(trainer)
    if save is None:
        save_weights(model, folder / WEIGHTS, weights)
    else:
        save()
    _remove(checkpoint)  # fewer epochs than between two checkpoints leave none
    _remove(lowest.path)  # last: a training that goes on from the checkpoint needs it


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


def hush_lightning() -> None:
    """Leaves the words about training to `PlainWords`."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _ON_PURPOSE:
        warnings.filterwarnings("ignore", message)


def _log(run: Run, step: Step) -> Log | None:
    """Where the training's rows go besides the report's history; nowhere in ranks that follow."""
    if follows():
        return None
    if run.config.logger.name != "csv":
        return run.tracking.log_of(step)
    # A training that goes on writes a further version: Lightning's logger would empty the file of the first part.
    logger = CSVLogger(Path(run.config.paths.outputs) / "csv" / step.name, name=run.spec(step).name)

    def log(values: Mapping[str, float], global_step: int) -> None:
        logger.log_metrics(dict(values), global_step)
        logger.save()

    return log
