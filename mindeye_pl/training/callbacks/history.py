"""Records of a training: the history for the report, and the rows that its step logs."""

import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.own_files import read_json

#: Writes a row: values by name, and the optimiser steps so far.
Log = Callable[[Mapping[str, float], int], None]

#: Keys of an epoch's record that measure the machine.
_PERFORMANCE = ("seconds", "trials_per_second", "peak_memory_gb")


def _has_epoch(record: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(record.get("epoch"), int):
        raise ValueError("a record without its epoch")
    return record


_RECORDS = list[Annotated[dict[str, Any], AfterValidator(_has_epoch)]]


class History(Callback):
    """Writes one record for each epoch to a json file, which is complete after every epoch and continued on resume.

    A record holds every metric logged per epoch, the learning rate, seconds, trials per second and peak memory in GB.
    An epoch that was stopped and resumed counts the trials and seconds of both parts.
    """

    def __init__(self, path: Path):
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._started, self._trials = 0.0, 0
        self._before = {"epoch": -1, "trials": 0, "seconds": 0.0}  # part of an epoch that was stopped

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the records of the epochs that are done."""
        fix = f"rm {self.path} resumes without the curves of the epochs before"
        records = read_history(self.path, fix)
        self.records = [record for record in records if record["epoch"] < trainer.current_epoch]

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
        record = {
            "epoch": trainer.current_epoch,
            **metrics,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(seconds, 3),
            "trials_per_second": round(self._trials / seconds, 1),
            "peak_memory_gb": round(peak_memory_gb(), 3),
        }
        self.records.append(record)
        if trainer.is_global_zero:
            write_text(self.path, json.dumps(self.records, indent=0))


def read_history(path: Path, fix: str | None = None) -> list[dict[str, Any]]:
    """Return the records of a training's epochs, empty where there are none; `fix` and errors as of `read_json`."""
    records: list[dict[str, Any]] = read_json(path, _RECORDS, fix=fix) if path.exists() else []
    return records


def peak_memory_gb() -> float:
    """Return the peak memory of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


class TrackTraining(Callback):
    """Logs every loss part, validation, learning rates, throughput and memory, each once.

    * `train/*`, `validation/*`: means over an epoch, one row for each epoch, with `epoch` and `performance/*`.
    * `train_step/*`: the losses of one step, every `every_n_steps` optimiser steps.
    * `lr/*`: the learning rate of each parameter group, in the same rows.

    The epochs' records are those of `history`, whose callback precedes this one.
    """

    def __init__(self, log: Log, history: History, every_n_steps: int):
        self.write, self.history, self.every_n_steps = log, history, every_n_steps
        self._last_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the losses of some of the steps."""
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._last_step or step % self.every_n_steps:
            return
        losses = {
            name.removesuffix("_step").replace("train/", "train_step/", 1): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.endswith("_step")
        }
        self.write(losses | self._learning_rates(trainer, pl_module), step)
        self._last_step = step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch before its checkpoint is written, so that a resumed training leaves no gap."""
        if not trainer.is_global_zero:
            return
        record = dict(self.history.records[-1])
        del record["learning_rate"]  # the first group's
        row = {f"performance/{name}": record.pop(name) for name in _PERFORMANCE}
        if trainer.global_step != self._last_step:
            row |= self._learning_rates(trainer, pl_module)
        self.write(record | row, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the last step that was logged."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last step that was logged."""
        self._last_step = state_dict["last_step"]

    @staticmethod
    def _learning_rates(trainer: Trainer, module: LightningModule) -> dict[str, float]:
        return {
            f"lr/{name}": float(group["lr"])
            for optimizer in trainer.optimizers
            for name, group in zip(group_names(module, optimizer), optimizer.param_groups, strict=True)
        }


def group_names(module: LightningModule, optimizer: Optimizer) -> list[str]:
    """Return a name for each parameter group of an optimiser: its part, as in `backbone`.

    Of two groups of one part the one without weight decay is `backbone_no_decay`; a group of several parts has the
    names of all.
    """
    owners = {id(parameter): name.split(".")[0] for name, parameter in module.named_parameters()}
    groups = optimizer.param_groups
    parts = ["+".join(dict.fromkeys(owners.get(id(p), "other") for p in group["params"])) for group in groups]
    names: list[str] = []
    for part, group in zip(parts, groups, strict=True):
        name = part if parts.count(part) == 1 or group.get("weight_decay") else f"{part}_no_decay"
        count = sum(other == name or other.startswith(f"{name}_group") for other in names)
        names.append(f"{name}_group{count + 1}" if count else name)
    return names
