"""Metrics of the user's: functions of reconstructions and seen images that a protocol names in `protocol.metrics`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import Input
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.images import Scored, TableMetric, metric_of_function
from mindeye_pl.steps.evaluation.image_sets import SEEN, ImageSets
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


@dataclass(frozen=True)
class OwnMetric:
    """A function that scores images, and its column in the table.

    Attributes:
        column: of the table.
        function: reconstructions and seen images `(b, 3, H, W)`, float32 in [0, 1], to `(b,)` scores.
    """

    column: TableMetric
    function: Callable[[Tensor, Tensor], Tensor]

    def score(self, sets: ImageSets, blocks: list[slice]) -> dict[str, dict[str, Scored]]:
        """Return the scores of every line, computed for some images at a time.

        Raises:
            UserError: if the function does not return one finite number per image.
        """
        seen = sets.sets[SEEN]
        return {
            line: {
                self.column.name: Scored.independent(
                    torch.cat([self._checked(sets.images(line, rows), seen[rows].float()) for rows in blocks])
                )
            }
            for line in sets.lines
        }

    def _checked(self, reconstructions: Tensor, images: Tensor) -> Tensor:
        found = self.function(reconstructions, images)
        if isinstance(found, Tensor) and found.shape == (len(images),) and found.isfinite().all():
            return found
        raise UserError(
            f"the metric {self.column.name} does not return one finite number per image",
            got=found if not isinstance(found, Tensor) or found.isfinite().all() else "a number that is not finite",
            expected=f"a tensor ({len(images)},)",
        )


@dataclass(frozen=True)
class OwnMetricInput(Input):
    """A metric of the user's; opened, an `OwnMetric`. Its file's content is part of the fingerprint.

    Attributes:
        name: in `protocol.metrics`.
    """

    name: str

    def _node(self, run: Run) -> DictConfig:
        node: DictConfig = run.config.protocol.metrics[self.name]
        return node

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of the function's full name and of the file that defines it."""
        self.check(run)
        path = self._node(run)._target_
        source = inspect.getsourcefile(inspect.unwrap(get_object(path)))
        assert source is not None, path
        return fingerprint({"function": path, "source": fingerprint_file(Path(source))})

    def open(self, run: Run) -> OwnMetric:
        """Return the function with its arguments."""
        node = self._node(run)
        column = metric_of_function(self.name, get_object(node._target_))
        return OwnMetric(column, instantiate(node, _partial_=True, _convert_="all"))

    def check(self, run: Run) -> None:
        """Check that the docstring describes the column."""
        self.open(run)
