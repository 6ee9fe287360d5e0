"""State of a training inside an epoch that Lightning's checkpoints leave out."""

from dataclasses import fields
from typing import Any

import torch
from lightning_fabric.utilities.seed import _collect_rng_states, _set_rng_states
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer import call
from pytorch_lightning.trainer.connectors.logger_connector import result as logged

_KEY = "mid_epoch"


class MidEpochState(Callback):
    """Saves and restores what a training that resumes inside an epoch needs to end in the same weights and metrics.

    * the states of torch's, numpy's and Python's random generators, of each rank;
    * the sums behind the epoch's mean metrics, of each rank, and the last values of all metrics;
    * the batches that the loader has done, which Lightning saves but does not always restore;
    * whether a callback has asked to stop.

    It is the first callback, so that hooks of all others find the restored state.
    """

    def __init__(self) -> None:
        self.has_trained = False
        self._saved: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of all ranks, as plain data and tensors."""
        own = {
            "generators": _generator_states(),
            "metrics": _metric_states(trainer.fit_loop.epoch_loop._results),
            "last_values": dict(trainer._logger_connector._callback_metrics),
        }
        ranks: list[Any] = [own]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            torch.distributed.all_gather_object(ranks, own)
        checkpoint[_KEY] = {"ranks": ranks, "should_stop": trainer.should_stop}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep this rank's state for the first batch; a training that a callback stopped does not start again."""
        self._saved = checkpoint[_KEY]["ranks"][trainer.global_rank]
        trainer.should_stop = checkpoint[_KEY]["should_stop"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the loader, which Lightning omits where a model asked for `estimated_stepping_batches` before."""
        self.has_trained = True
        if self._saved is not None:
            device = trainer.strategy.root_device
            last_values = {name: value.to(device) for name, value in self._saved["last_values"].items()}
            trainer._logger_connector._callback_metrics.update(last_values)
        trainer.fit_loop._load_combined_loader_states()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore the state before the first batch where that is not the first one of its epoch."""
        saved, self._saved = self._saved, None
        if saved is None or batch_idx == 0:
            return
        # The hooks set up what lives in memory: progress bars, dropout of frozen parts. Lightning omits them.
        call._call_callback_hooks(trainer, "on_train_epoch_start")
        call._call_lightning_module_hook(trainer, "on_train_epoch_start")
        _restore_metrics(trainer, saved["metrics"])
        _set_rng_states(saved["generators"])
        if "cuda" in saved["generators"]:
            torch.cuda.set_rng_state(saved["generators"]["cuda"])


def _generator_states() -> dict[str, Any]:
    """Return the states of the global random generators of torch (CPU and the current GPU), numpy and Python."""
    states = _collect_rng_states(include_cuda=False)  # of the devices of other ranks
    name, key, *rest = states["numpy"]
    states["numpy"] = (name, key.tolist(), *rest)  # loaded without unpickling arrays
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _metric_states(results: logged._ResultCollection) -> dict[str, dict[str, Any]]:
    """Return the sums of the metrics that were logged in this epoch."""
    states = {}
    for key, metric in results.items():
        if metric.is_tensor and not metric.has_reset:
            meta = {field.name: getattr(metric.meta, field.name) for field in fields(logged._Metadata)}
            sync = meta.pop("_sync")
            states[key] = {
                "meta": meta | {"reduce_fx": meta["reduce_fx"].__name__},
                "sync": {"_should": sync.should, "rank_zero_only": sync.rank_zero_only},
                "sums": {name: getattr(metric, name) for name in (*metric._defaults, "_forward_cache")},
            }
    return states


def _restore_metrics(trainer: Trainer, states: dict[str, dict[str, Any]]) -> None:
    """Register the metrics as `LightningModule.log` does and restore their sums."""
    results, device = trainer.fit_loop.epoch_loop._results, trainer.strategy.root_device
    for key, state in states.items():
        meta = logged._Metadata(**state["meta"])
        meta.sync = logged._Sync(fn=trainer.strategy.reduce, **state["sync"])
        metric = results[key] = logged._ResultMetric(meta, is_tensor=True)
        for name, value in state["sums"].items():
            setattr(metric, name, value if value is None else value.to(device))
        metric._update_count = 1
    # This is not the first batch of the epoch, at which Lightning empties all sums.
    trainer._logger_connector._first_loop_iter = False
