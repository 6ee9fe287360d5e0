"""Durations of named pieces of work, of which the parts of a model are one kind."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Latency:
    """Durations of one piece of work.

    Attributes:
        median_ms: median, in milliseconds.
        p99_ms: 99th percentile, in milliseconds.
        count: times that it was done.
    """

    median_ms: float
    p99_ms: float
    count: int


@dataclass
class Clock:
    """Measures pieces of work by name: `with clock("prior"): ...`. It waits for the GPU at both ends.

    Attributes:
        enabled: False measures nothing and waits for nothing.
        seconds: durations by name, in the order in which they were measured.
    """

    enabled: bool = True
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure what is done in the context; an exception is not counted."""
        if not self.enabled:
            yield
            return
        _wait()
        started = time.perf_counter()
        yield
        _wait()
        self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Add a duration that was measured elsewhere."""
        self.seconds.setdefault(name, []).append(seconds)

    def latencies(self, *, skip: int = 0) -> dict[str, Latency]:
        """Return median and 99th percentile by name, without the first `skip` times of each."""
        counted = {name: 1000 * np.array(values[skip:]) for name, values in self.seconds.items() if values[skip:]}
        return {
            name: Latency(float(np.median(ms)), float(np.percentile(ms, 99)), len(ms)) for name, ms in counted.items()
        }


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
