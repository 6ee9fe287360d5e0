"""The checkpoint that a stopped training resumes from: when it is written, and how."""

import shlex
import signal
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from mindeye_pl.errors import UserError
from mindeye_pl.stopping import Stopped, say, stop
from mindeye_pl.store.atomic import replacing
from mindeye_pl.store.manifest import FOLDER_ENTRIES, compare, read_manifest, write_manifest
from mindeye_pl.store.regular_files import check_regular
from mindeye_pl.types import NonNegativeFloat, PositiveInt

#: File, or folder where each rank writes its own part, in the training's folder.
LAST_CHECKPOINT = "last.ckpt"

#: Signals that can be answered and whose default ends the process.
SignalName = Literal["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP", "SIGXCPU"]

#: Reason to save beside the numbers of signals, which are larger.
_DUE = 1

#: Key of the folder in a checkpoint.
_FOLDER = "resume_folder"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Stream a checkpoint to a temporary file, flush it to disk and rename it.

    Lightning's own plugin builds the whole file in memory first, which doubles the 27 GB of a full-size run, and does
    not flush before the rename.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, only_writer=True) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def check_checkpoints(paths: Sequence[Path]) -> None:
    """Compare checkpoints of one training with their checksums, which torch ignores.

    Raises:
        UserError: if one is missing or damaged, or a folder with parts of different checkpoints.
    """
    for path in paths:
        if (damage := _damage(path)) is not None:
            what, expected = f"{path} is damaged", "the checkpoint that was written"
            fix = f"{shlex.join(['rm', '-rf', *map(str, paths)])} starts this training from its beginning"
            raise UserError(what, got=damage, expected=expected, fix=fix)


def _damage(path: Path) -> object:
    """Return the damage of a file by the checksums of its zip, of a folder by those beside its parts; None without."""
    try:
        if path.is_dir():
            return compare(path, read_manifest(path, FOLDER_ENTRIES), checksums=True) or None
        with zipfile.ZipFile(check_regular(path)) as file:
            return file.testzip()
    except UserError as error:
        return error.got
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return error


def write_checksums(path: Path) -> None:
    """Write the checksums of a checkpoint's parts beside them; the zip of a single file has its own."""
    if path.is_dir():
        write_manifest(path, schema=1, determined_by={})


class ResumeCheckpoint(Checkpoint):
    """Writes one checkpoint, each over the last one.

    Inside an epoch a checkpoint is written after an optimiser step, at the earliest step that no validation follows.
    A signal is answered there too: the checkpoint is written and the process ends with one line.

    Lightning's `ModelCheckpoint(train_time_interval=)` also saves at the last batch of an epoch, from where a resumed
    training would skip the epoch's validation, and never saves under manual optimisation.

    Args:
        every_n_epochs: epochs between two checkpoints.
        every_n_minutes: None writes none inside an epoch, but on a signal.
        signals: names of the signals that stop the training: Slurm preempts with SIGTERM, `sbatch --signal=USR1@120`
            sends SIGUSR1 before the time limit, Ctrl-C is SIGINT, whose second one ends the process at once. A handler
            that was there before, as submitit's, is called afterwards.
    """

    def __init__(
        self,
        every_n_epochs: PositiveInt = 1,
        every_n_minutes: NonNegativeFloat | None = 30.0,
        signals: Sequence[SignalName] = ("SIGTERM", "SIGUSR1", "SIGINT"),
    ):
        super().__init__()
        self.every_n_epochs, self.every_n_minutes = every_n_epochs, every_n_minutes
        self.signals = [signal.Signals[name] for name in signals]
        self.path = Path(LAST_CHECKPOINT)  # set by `fit`
        self._received = self._stop_with = 0
        self._saves = True
        self._saved_at_s = 0.0
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the handlers that are there before Lightning's."""
        self._received = self._stop_with = 0
        self._saves = not getattr(trainer, "fast_dev_run", False)
        self._handlers = {number: signal.getsignal(number) for number in self.signals}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the folder, in which other callbacks may have files."""
        checkpoint[_FOLDER] = str(self.path.parent.resolve())

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct the paths in the states of all callbacks where the folder was moved since."""
        before, now = checkpoint[_FOLDER], str(self.path.parent.resolve())
        if before != now:
            checkpoint["callbacks"] = _moved(checkpoint["callbacks"], before, now)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which save nothing; it restores those from before at the end."""
        self._saved_at_s = time.monotonic()
        self._received = signal.SIGTERM if trainer.received_sigterm else 0
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due, and stop where a signal asked for it."""
        loop = trainer.fit_loop.epoch_loop
        gradients_wait, epoch_ends = loop._should_accumulate(), loop._num_ready_batches_reached()
        if gradients_wait or epoch_ends or loop._should_check_val_fx(trainer.fit_loop._data_fetcher):  # type: ignore[arg-type]
            return
        if reason := self._reason(trainer):
            self._save(trainer)
            self._stop(trainer, reason, f"in epoch {trainer.current_epoch + 1} after step {batch_idx + 1}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it is due; a signal stops the training a little later, when loggers have the epoch's metrics."""
        reason = self._reason(trainer)
        if reason or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer)
        self._stop_with = reason

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where a signal asked for it in the previous epoch."""
        self._stop(trainer, self._stop_with, f"after epoch {trainer.current_epoch}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where a signal asked for it, with a checkpoint of the trained model."""
        if (reason := self._stop_with or self._reason(trainer)) > _DUE:
            self._save(trainer)
            self._stop(trainer, reason, f"after epoch {trainer.current_epoch}, the last one")

    def _reason(self, trainer: Trainer) -> int:
        """Return the signal that any rank received, else `_DUE` or 0; all ranks get the same."""
        minutes = (time.monotonic() - self._saved_at_s) / 60
        due = self.every_n_minutes is not None and minutes >= self.every_n_minutes and trainer.is_global_zero
        reason = self._received or (_DUE if due else 0)
        if trainer.world_size == 1:
            return reason
        return int(trainer.strategy.reduce(torch.tensor(reason, device=trainer.strategy.root_device), reduce_op="max"))

    def _save(self, trainer: Trainer) -> None:
        if self._saves:
            trainer.save_checkpoint(self.path)
            if trainer.is_global_zero:
                write_checksums(self.path)
            self._saved_at_s = time.monotonic()

    def _stop(self, trainer: Trainer, reason: int, where: str) -> None:
        if reason <= _DUE:
            return
        if trainer.is_global_zero:
            name = signal.Signals(reason).name
            say(f"stopped by {name} {where}; the same command resumes there")
        handler = self._handlers.get(reason)
        if callable(handler) and handler not in (stop, signal.default_int_handler):
            handler(reason, None)
        raise Stopped(reason)


def _moved(state: Any, before: str, now: str) -> Any:
    """Return a state with the folder's new name in its keys and values."""
    if isinstance(state, dict):
        return {_moved(key, before, now): _moved(value, before, now) for key, value in state.items()}
    return state.replace(before, now) if isinstance(state, str) else state
