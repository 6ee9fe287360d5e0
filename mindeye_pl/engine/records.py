"""Interfaces of the records of steps: what a step logs in its build, and of its finished artifact."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


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
