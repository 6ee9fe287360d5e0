"""The history that the report draws, independent of any logger."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mindeye_pl.store.atomic import write_text


class History(Callback):
    """Keeps one record for each epoch in a json file, whole after every epoch and continued after a kill.

    A record holds every metric logged per epoch, the learning rate, seconds, trials per second and peak memory in GB.

    Args:
        path: of the json file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._started = 0.0
        self._trials = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the records of the epochs that are done."""
        earlier = json.loads(self.path.read_text()) if self.path.exists() else []
        self.records = [record for record in earlier if record["epoch"] < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the epoch's clock."""
        self._started, self._trials = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the trials of all ranks."""
        self._trials += len(batch) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch's record."""
        seconds = time.perf_counter() - self._started
        metrics = {
            name.removesuffix("_epoch"): round(float(value), 6)
            for name, value in trainer.callback_metrics.items()
            if not name.endswith("_step")
        }
        self.records.append(
            {
                "epoch": trainer.current_epoch,
                **metrics,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "seconds": round(seconds, 3),
                "trials_per_second": round(self._trials / seconds, 1),
                "peak_memory_gb": round(peak_memory_gb(), 3),
            }
        )
        if trainer.is_global_zero:
            write_text(self.path, json.dumps(self.records, indent=0))


def peak_memory_gb() -> float:
    """Of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
