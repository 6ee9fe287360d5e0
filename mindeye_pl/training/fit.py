"""The training loop of every model: Lightning's trainer, the project's callbacks, and resuming."""

import logging
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.trainer import call
from pytorch_lightning.utilities.exceptions import SIGTERMException
from typing_extensions import TypedDict

from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import agree, on_main_process, wait_for_all
from mindeye_pl.distributed.strategies import full_weights, shards_weights, strategy_name, trainer_options
from mindeye_pl.engine.records import StepLog
from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.run import BEST, LAST, LOSS, Keep, ValidationScore
from mindeye_pl.stopping import Stopped, ctrl_c
from mindeye_pl.store.atomic import remove, write_json
from mindeye_pl.store.own_files import read_json
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.finite_guard import FiniteGuard
from mindeye_pl.training.callbacks.history import History, TrackTraining
from mindeye_pl.training.callbacks.memory_preflight import MemoryPreflight
from mindeye_pl.training.callbacks.mid_epoch import MidEpochState
from mindeye_pl.training.callbacks.progress import ProgressPrinter
from mindeye_pl.training.callbacks.resume_checkpoint import (
    LAST_CHECKPOINT,
    AtomicCheckpointIO,
    ResumeCheckpoint,
    check_checkpoints,
)
from mindeye_pl.training.checkpoints import WEIGHTS, save_weights
from mindeye_pl.training.settings import TrainingSettings

HISTORY = "history.json"
#: Written when all epochs are done and the weights are saved: the epoch whose weights they are.
TRAINED = "trained.json"

#: Nodes of the configuration that a training reads besides its own; the weights depend on `determined_by_trainer` and
#: `determined_by_callbacks` of them.
TRAINER_KEYS = ("trainer", "callbacks", "logger")


def fit(
    model: LightningModule,
    data: LightningDataModule,
    folder: Path,
    settings: TrainingSettings,
    *,
    budget: Budget,
    title: str,
    keep: Keep = LAST,
    validation_score: ValidationScore = LOSS,
    callbacks: Sequence[Callback] = (),
    log: StepLog | None = None,
    save: Callable[[], None] | None = None,
) -> int:
    """Train `model` and write its weights to `folder`, resuming from the checkpoint of a stopped training there.

    A training that is finished there is not repeated, and `model` stays as it is.

    Args:
        model: freshly initialised; a checkpoint overrides its weights.
        data: the data module.
        folder: for checkpoints, history and weights.
        settings: trainer, callbacks, loggers and seed.
        budget: number of epochs, at most `trainer.max_epochs` where that is set, and their steps.
        title: title on the console.
        keep: keeps the weights after the last epoch, or after the one with the best score on validation images.
        validation_score: that score.
        callbacks: callbacks of this training, beside those of `settings`.
        log: receives rows of metrics.
        save: writes the trained weights; None writes those of the whole model. The checkpoint is removed afterwards.

    Returns:
        Epoch after which the weights are kept, counted from 0.

    Raises:
        UserError: for weights that `save` cannot write because they are sharded, for trainer options or callbacks that
            Lightning refuses, for a GPU with too little memory, for a loss or
            weights that are not finite, or for a training without any finite
            validation score to keep weights by.
        Stopped: after a signal, with a checkpoint from which the next call resumes.
    """
    if save is not None and shards_weights(strategy := settings.trainer.get("strategy", "auto")):
        raise UserError(f"{title}: weights cannot be sharded", got=strategy_name(strategy), fix="trainer.strategy=ddp")
    checkpoint, best_checkpoint, trained = folder / LAST_CHECKPOINT, folder / f"{BEST}.ckpt", folder / TRAINED

    def remove_checkpoints() -> None:
        remove(checkpoint)  # fewer epochs than between two checkpoints leave none
        remove(best_checkpoint)  # last: a training that resumes from the checkpoint needs it

    if agree(trained.exists()):  # killed between its last epoch and the end of the step
        kept = on_main_process(_kept_epoch, trained)
        on_main_process(remove_checkpoints)
        return int(kept)
    silence_lightning()
    # Tensor cores for float32 on GPUs, as the published code asks for.
    torch.set_float32_matmul_precision("high" if settings.trainer.accelerator == "gpu" else "highest")
    # `trainer.deterministic` would fill every new tensor with NaN, in case it is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    state, history, best = MidEpochState(), History(folder / HISTORY), None
    chosen = [
        state,
        EpochSeed(settings.seed),
        MemoryPreflight(),
        FiniteGuard(),
        history,
        ProgressPrinter(title),
        *callbacks,
    ]
    if keep == BEST:
        best = best_validation(folder, validation_score)
        chosen.append(best)
    if log is not None and log.enabled:
        chosen.append(TrackTraining(log.log, history, settings.trainer.get("log_every_n_steps", 50)))
    chosen += settings.build_callbacks()
    for callback in chosen:
        if isinstance(callback, ResumeCheckpoint):
            callback.path = checkpoint
    trainer = _build_trainer(settings, data, folder, budget, chosen)
    resumed_from = str(checkpoint) if agree(checkpoint.exists()) else None
    written = [one for one in (checkpoint, best_checkpoint) if one.exists()]
    if resumed_from is not None:
        on_main_process(check_checkpoints, written)
    try:
        with ctrl_c():
            trainer.fit(model, datamodule=data, ckpt_path=resumed_from, weights_only=True)
    except MisconfigurationException as error:
        fix = "another trainer, logger or callback"
        raise UserError(f"Lightning refuses the training: {error}", fix=fix) from error
    except SIGTERMException:  # without a `ResumeCheckpoint`; it would be exit code 0
        raise Stopped(signal.SIGTERM, f"{title}: stopped by SIGTERM; the same command starts it again") from None
    if not state.has_trained:  # resumed after the last epoch, where Lightning omits the hooks of the end
        call._call_callback_hooks(trainer, "on_train_end")
    kept = trainer.current_epoch - 1
    if best is not None and best.best_model_path:
        on_main_process(check_checkpoints, [best_checkpoint, checkpoint])
        found = weights_of_best(best)
        kept = found["epoch"]
        model.load_state_dict(found["state_dict"])
    weights = full_weights(trainer)

    def finish() -> None:
        if save is None:
            save_weights(model, folder / WEIGHTS, weights)
        else:
            save()
        write_json(trained, {"kept_epoch": kept})
        remove_checkpoints()

    wait_for_all()  # every rank has read the checkpoints
    on_main_process(finish)
    return kept


class _Trained(TypedDict):
    kept_epoch: int


def _kept_epoch(trained: Path) -> int:
    fix = f"rm {trained} trains again, from the last checkpoint where it is left"
    kept: int = read_json(trained, _Trained, fix=fix)["kept_epoch"]
    return kept


def _build_trainer(
    settings: TrainingSettings, data: LightningDataModule, folder: Path, budget: Budget, callbacks: list[Callback]
) -> Trainer:
    """Return the configured trainer; its own node overrides the project's defaults."""
    node = settings.trainer
    if not node.get("enable_checkpointing", True):
        callbacks = [one for one in callbacks if not isinstance(one, ResumeCheckpoint)]
    options = trainer_options(settings)
    given = instantiate(node.plugins, _convert_="all") if node.get("plugins") else []
    options["plugins"] = [*(given if isinstance(given, list) else [given]), AtomicCheckpointIO()]
    defaults: dict[str, Any] = {
        "default_root_dir": str(folder),
        "enable_progress_bar": any(isinstance(one, ProgressBar) for one in callbacks),
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # the project's samplers depend on the rank
        "num_sanity_val_steps": 0,
        "reload_dataloaders_every_n_epochs": int(getattr(data, "growth", None) is not None),
    }
    options |= {key: value for key, value in defaults.items() if key not in node}
    options["max_epochs"] = min(budget.epochs, node.get("max_epochs") or budget.epochs)
    if (steps := budget.max_steps) is not None:
        given_steps = node.get("max_steps", -1)
        options["max_steps"] = steps if given_steps < 0 else min(steps, given_steps)
    return instantiate(node, callbacks=callbacks, logger=settings.build_loggers() or False, _convert_="all", **options)


def best_validation(folder: Path, score: ValidationScore) -> ModelCheckpoint:
    """Return the callback that keeps the weights of the epoch with the best score on validation images."""
    return ModelCheckpoint(
        folder,
        filename=BEST,
        monitor=f"validation/{score}",
        mode="min" if score == LOSS else "max",
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )


def weights_of_best(callback: ModelCheckpoint) -> dict[str, Any]:
    """Return the kept `state_dict` and its `epoch`; raise a `UserError` if no validation score was finite."""
    if callback.best_model_score is None or not torch.isfinite(callback.best_model_score):
        raise UserError(f"no {callback.monitor} was finite", got="nan", expected="a number", fix="finetune.keep=last")
    kept: dict[str, Any] = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
    score = str(callback.monitor).replace("/", " ").replace("_", " ")
    extreme = {"min": "lowest", "max": "highest"}[callback.mode]
    console.print(f"  keeping the weights after epoch {kept['epoch'] + 1}, whose {score} is the {extreme}")
    return kept


#: Warnings of Lightning about deliberate choices.
_IGNORED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",  # the work folder of a stopped run
    "Found .* module.* in eval mode at the start of training",  # a frozen VAE beside the UNet that learns
    "It is recommended to use .self.log.'validation/.*sync_dist=True",  # every rank validates on all images
    "Total length of .* across ranks is zero",  # the data module warns itself when there is no validation
    "The .*dataloader.* does not have many workers",  # betas are in memory: a batch costs a copy
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged too
    "`isinstance.treespec, LeafSpec.` is deprecated",
)


def silence_lightning() -> None:
    """Leave progress messages to `ProgressPrinter`; results of `trainer.profiler` are still shown."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
