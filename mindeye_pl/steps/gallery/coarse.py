"""The coarse search: one vector of an image or a brain, by the run's own model or by another one.

Legend: n test images, B batch, S tokens, D token width, F vector width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.nsd.test_set import TestSet
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare, select
from mindeye_pl.engine.step import Composed, Input
from mindeye_pl.gallery.coarse import VECTORS
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation.retrieval import predict_retrieval
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.store.fingerprint import fingerprint


@dataclass(frozen=True)
class WithOverrides(Input):
    """An input of the same command line with further overrides.

    Attributes:
        overrides: that replace those of the same key.
        input: opened in the run that they make.
    """

    overrides: tuple[str, ...]
    input: Input

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of the input and all its parts."""
        other = self._other(run)
        return fingerprint({name: leaf.fingerprint(other) for name, leaf in self._leaves(other).items()})

    def open(self, run: Run) -> Any:
        """Return what the input opens to."""
        return self.input.open(self._other(run))

    def prepare(self, run: Run) -> None:
        """Make the steps that the other run needs."""
        other = self._other(run)
        for step in self.input.steps(other.config):
            other.make(step)

    def missing(self, run: Run) -> list[str]:
        """Return the missing files of all parts."""
        other = self._other(run)
        return [one for leaf in self._leaves(other).values() for one in leaf.missing(other)]

    def check(self, run: Run) -> None:
        """Check the files of all parts."""
        other = self._other(run)
        for leaf in self._leaves(other).values():
            leaf.check(other)

    def _other(self, run: Run) -> Run:
        return run.with_overrides(self.overrides)

    def _leaves(self, other: Run) -> dict[str, Input]:
        return self.input.leaves(other.config)


def of_coarse_model(config: DictConfig, one: Input) -> Input:
    """Return an input of the coarse search's model: this run's, or another by the overrides of `retrieve.coarse`."""
    overrides = tuple(config.retrieve.coarse)
    return WithOverrides(overrides, one) if overrides else one


@dataclass(frozen=True)
class ReadBrains(Composed):
    """The brains of the test set, read; opened, the test set and its retrieval embeddings `(n, S, D)`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the data and the trained model."""
        return {"data": test_data(config), "split": Split(), "model": Trained()}

    def identity(self, run: Run) -> dict[str, Any]:
        """Return the settings of the test set."""
        return select(run.resolved, TEST_TRIALS)

    def open(self, run: Run) -> tuple[TestSet, Tensor]:
        """Read the brains."""
        parts, settings = self.opened(run), declare(run.resolved, (*TEST_TRIALS, *TEST_RUNTIME))
        data, subject = subject_trials(parts["data"], settings, parts["split"]), settings.data.subject
        brains = data.test_set(subject)
        model = parts["model"].load(data.voxel_counts[subject])
        return brains, predict_retrieval(model, brains, brains.weights)


def vector_settings(settings: DictConfig) -> dict[str, Any]:
    """Return what determines a vector beside the embedder.

    Args:
        settings: node `retrieve`.
    """
    projected = {"width": settings.width, "seed": settings.projection_seed}
    return {"kind": settings.vector, **(projected if settings.vector == "projected" else {})}


def vector_of(settings: DictConfig) -> Callable[[Tensor], Tensor]:
    """Return the function of tokens `(B, S, D)` to vectors `(B, F)`.

    Args:
        settings: node `retrieve`.
    """
    return VECTORS[settings.vector](settings.width, settings.projection_seed)
