"""The images of all training trials, whose tokens stand in for those of a brain that is near them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.engine.settings import declare, resolve, select
from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.models.neighbour_tokens import NeighbourTokens
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials, trial_data
from mindeye_pl.steps.inputs.splits import Split, test_data, training_data
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets
from mindeye_pl.store.fingerprint import fingerprint

_PRETRAINING = ("pretrain.subjects", "pretrain.num_sessions")


@dataclass(frozen=True)
class KnownImages(Input):
    """Training images of the subject and of a pretraining; opened, their `NeighbourTokens`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trials, the tested images, the images left out, and the target tokens."""
        data = training_data(config, sorted({*_pretrained(config), config.data.subject}))
        return {"data": data, "tested": test_data(config), "split": Split(), "targets": Targets()}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return that of the pretraining's trials; the subject's own are among the settings of its steps."""
        keys = _PRETRAINING if _pretrained(config) else ()
        return fingerprint(select(resolve(config, keys), keys))

    def open(self, config: DictConfig, parts: Inputs) -> NeighbourTokens:
        """Return the tokens of the images, without validation images and the subject's test images.

        An image that one subject is tested with may be a training image of another.
        """
        keys = (*TEST_TRIALS, *TEST_RUNTIME, *_PRETRAINING)
        settings, dataset, split = declare(resolve(config, keys), keys), parts["data"], parts["split"]
        read = [subject_trials(dataset, settings, split)]
        if subjects := _pretrained(config):
            sessions = settings.pretrain.num_sessions
            read.append(trial_data(dataset, settings, split, subjects=subjects, num_sessions=sessions))
        ids = np.unique(np.concatenate([trials.stimulus_ids for data in read for trials in data.train_trials]))
        ids = np.setdiff1d(ids, parts["tested"].test_ids(settings.data.subject, settings.data.test_split, split))
        targets: ImageTargets = parts["targets"]
        wanted = config.reconstruct.neighbours
        device = targets.embeddings.device
        return NeighbourTokens(targets.tokens(ids), ids, wanted.temperature, wanted.spread, device)


def _pretrained(config: DictConfig) -> list[int]:
    """Return the subjects of the pretraining, none where there is none."""
    return list(config.pretrain.subjects) if config.finetune.start == "pretrained" else []
