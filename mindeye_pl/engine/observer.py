"""Interfaces of observers of a run; the base classes do nothing, W&B's are in `reports.wandb`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from mindeye_pl.engine.run import Run
    from mindeye_pl.engine.step import Step


class Record(Protocol):
    """The record of a finished step: numbers, tables and images."""

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set numbers of the step as a whole."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table."""

    def log_images(self, name: str, images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
        """Add `(H, W, 3)` uint8 images with captions."""


class StepLog:
    """Receiver of the rows and images that a step logs during its build. This one ignores them."""

    #: Whether rows are kept anywhere; a training spares itself the work otherwise.
    enabled = False

    def log(self, values: Mapping[str, float], global_step: int) -> None:
        """Add a row of a training's metrics."""

    def log_image(self, image: np.ndarray, epochs: int) -> None:
        """Add an `(H, W, 3)` uint8 image made after so many epochs."""


class Observer:
    """Receives what happens to the steps of a run. This one ignores it."""

    @contextmanager
    def making(self, run: "Run", step: "Step") -> Iterator[Callable[[], StepLog]]:
        """Surround the making of a step; the function that it yields is called where there is something to build."""
        yield StepLog

    def found(self, run: "Run", step: "Step") -> None:
        """Tell of a step whose artifact was finished already."""

    def uses_embeddings(self, folder: Path, described: Mapping[str, Any], fingerprint: str, *, filled: bool) -> None:
        """Tell of a folder of embeddings that the steps in making read, or fill."""
