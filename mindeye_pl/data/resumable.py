"""Samplers and loaders that resume inside an epoch after the batches that a stopped training has used."""

import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, SequentialSampler

Batch = TypeVar("Batch")
Index = TypeVar("Index")


class ResumableSampler(Generic[Index]):
    """Sampler of whole batches whose next pass may start at a later batch; a mixin of torch's samplers."""

    first = 0  # number of batches that the next pass skips; later passes are complete

    def batches(self) -> Iterator[Index]:
        """Yield the indices of every batch of the epoch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Index]:
        first, self.first = self.first, 0
        yield from islice(self.batches(), first, None)


class FixedBatches(ResumableSampler[Index], SequentialSampler):  # type: ignore[misc]
    """The same batches in every epoch and on every rank.

    It is a `SequentialSampler` because Lightning replaces any other one under `trainer.overfit_batches`.
    """

    def __init__(self, fixed: Sequence[Index]):
        super().__init__(fixed)
        self.fixed = fixed

    def batches(self) -> Iterator[Index]:
        """Yield the batches."""
        return iter(self.fixed)


def ignore_preemption(worker: int) -> None:
    """Ignore the signals that Slurm sends to all processes of a job; the loader ends its workers."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def on_gpu(trainer: Any) -> bool:
    """Return whether batches are copied to a GPU, so that they are worth pinning."""
    strategy = getattr(trainer, "strategy", None)
    return strategy is not None and strategy.root_device.type == "cuda"


class ResumableLoader(DataLoader[Batch]):
    """Loader over a `ResumableSampler`; its state in a checkpoint is the number of batches taken in the epoch.

    The iterator is created at the first batch: Lightning asks for one before it restores a checkpoint, and workers
    would then fetch batches of the wrong epoch.
    """

    _taken = 0

    def __init__(self, *args: Any, num_workers: int = 0, **more: Any):
        # Workers are seeded by a generator of their own: a process that resumes starts them at another time.
        generator = torch.Generator() if num_workers else None
        super().__init__(*args, **{"num_workers": num_workers, "generator": generator, **more})

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.num_workers:
            torch.empty((), dtype=torch.int64).random_()  # the number that each pass of a loader without workers draws
        self._taken = self.sampler.first  # type: ignore[attr-defined]
        for batch in super().__iter__():
            self._taken += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches taken, 0 at the end of an epoch."""
        return {"batches_taken": self._taken % len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Skip the batches that were taken before the checkpoint."""
        self.sampler.first = state["batches_taken"]  # type: ignore[attr-defined]
