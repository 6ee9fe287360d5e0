"""The coarse search: one vector of an image or a brain, by the run's own model or by another one.

Legend: n test images, B batch, S tokens, D token width, F vector width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.nsd.test_set import TestSet
from mindeye_pl.engine.settings import declare, resolve, select
from mindeye_pl.engine.step import Input, Inputs, WithOverrides
from mindeye_pl.gallery.coarse import coarse_vector
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation.retrieval import predict_retrieval
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.store.fingerprint import fingerprint


def of_coarse_model(config: DictConfig, one: Input) -> Input:
    """Return an input of the coarse search's model: this run's, or another by the overrides of `retrieve.coarse`."""
    overrides = tuple(config.retrieve.coarse)
    return WithOverrides(overrides, one) if overrides else one


@dataclass(frozen=True)
class ReadBrains(Input):
    """The brains of the test set, read; opened, the test set and its retrieval embeddings `(n, S, D)`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the data and the trained model."""
        return {"data": test_data(config), "split": Split(), "model": Trained()}

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the test set's settings."""
        return fingerprint(select(resolve(config, TEST_TRIALS), TEST_TRIALS))

    def open(self, config: DictConfig, parts: Inputs) -> tuple[TestSet, Tensor]:
        """Read the brains."""
        settings = declare(resolve(config, keys := (*TEST_TRIALS, *TEST_RUNTIME)), keys)
        data, subject = subject_trials(parts["data"], settings, parts["split"]), settings.data.subject
        brains = data.test_set(subject)
        model = parts["model"].load(data.voxel_counts[subject])
        return brains, predict_retrieval(model, brains, brains.weights)


def vector_settings(settings: DictConfig) -> dict[str, Any]:
    """Return what determines a vector beside the embedder, from the node `retrieve`."""
    projected = {"width": settings.width, "seed": settings.projection_seed}
    return {"kind": settings.vector, **(projected if settings.vector == "projected" else {})}


def vector_of(settings: DictConfig) -> Callable[[Tensor], Tensor]:
    """Return the function of tokens `(B, S, D)` to vectors `(B, F)`, from the node `retrieve`."""
    return coarse_vector(settings.vector, settings.width, settings.projection_seed)
