"""History of a training for the report, independent of any logger."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mindeye_pl.store.atomic import write_text


class History(Callback):
    """Writes one record for each epoch to a json file, which is complete after every epoch and continued on resume.

    A record holds every metric logged per epoch, the learning rate, seconds, trials per second and peak memory in GB.
    An epoch that was stopped and resumed counts the trials and seconds of both parts.

    Args:
        path: of the json file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._started, self._trials = 0.0, 0
        self._before = {"epoch": -1, "trials": 0, "seconds": 0.0}  # part of an epoch that was stopped

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the records of the epochs that are done."""
        earlier = json.loads(self.path.read_text()) if self.path.exists() else []
        self.records = [record for record in earlier if record["epoch"] < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        before = self._before if self._before["epoch"] == trainer.current_epoch else {"trials": 0, "seconds": 0.0}
        self._started, self._trials = time.perf_counter() - before["seconds"], int(before["trials"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the trials of all ranks."""
        self._trials += len(batch) * trainer.world_size
        seconds = time.perf_counter() - self._started
        self._before = {"epoch": trainer.current_epoch, "trials": self._trials, "seconds": seconds}

    def state_dict(self) -> dict[str, Any]:
        """Return the trials and seconds of the epoch so far."""
        return self._before

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the epoch that the checkpoint was written in."""
        self._before = state_dict

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's record."""
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
    """Return the peak memory of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
