"""Metrics of the user's: functions of reconstructions and seen images that a protocol names in `protocol.metrics`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.engine.step import Input, Inputs
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
                    torch.cat([self._checked(sets.images(line, rows), seen[rows]) for rows in blocks])
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

    def _node(self, config: DictConfig) -> DictConfig:
        node: DictConfig = config.protocol.metrics[self.name]
        return node

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the function's full name and of the file that defines it."""
        self._metric(config)
        path = self._node(config)._target_
        source = inspect.getsourcefile(inspect.unwrap(get_object(path)))
        assert source is not None, path
        return fingerprint({"function": path, "source": fingerprint_file(Path(source))})

    def open(self, config: DictConfig, parts: Inputs) -> OwnMetric:
        """Return the function with its arguments."""
        return self._metric(config)

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check that the docstring describes the column."""
        self._metric(config)

    def _metric(self, config: DictConfig) -> OwnMetric:
        node = self._node(config)
        column = metric_of_function(self.name, get_object(node._target_))
        return OwnMetric(column, instantiate(node, _partial_=True, _convert_="all"))
