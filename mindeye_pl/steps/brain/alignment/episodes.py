"""Training on episodes: backbone, low level and prior learn to read alignments that an hour of data gives.

A pretrained backbone has seen alignments of many hours. That of an hour is noisier, and its errors on new trials are
larger than on the hour's own. Each episode aligns an hour of a pretraining subject in closed form, as a new subject's,
and the shared parts are trained on other trials of the subject. A linear alignment is fitted to the shared space;
voxels that are pooled by cluster are placed among those of the other subjects.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.data.episodes import EpisodeDataModule
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.alignment.prior import position_inputs
from mindeye_pl.steps.brain.alignment.shared_space import ALIGNMENT_KEYS, SharedSpace, load_shared
from mindeye_pl.steps.brain.pretrain import PRETRAIN, TRAINING_KEYS, repetition_slots
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, add_targets, hours, image_means, trial_options
from mindeye_pl.steps.brain.voxel_clusters import CLUSTER_VOXELS, KnownVoxels, place_voxels, pools_clusters
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.build import build_model
from mindeye_pl.training.checkpoints import WEIGHTS, read_weights
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks


class Episodes(Step):
    """Trains what subjects share on episodes of the pretraining subjects, with frozen alignments."""

    name = "train_episodes"
    title = "Training on episodes"
    keys = (
        *(*TRAINING_KEYS, *ALIGNMENT_KEYS, "finetune.episodes", "data.num_sessions"),
        *("pretrain.subjects", "pretrain.num_sessions"),
    )
    runtime_keys = (*TRAINING_RUNTIME, *TRAINER_KEYS, "voxel_clusters.neighbours")
    version = 2  # as that of the closed form
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return subjects, hours and seed."""
        return PRETRAIN.label(config).replace("-seed", f"-{_amount(config)}-seed")

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return trials, the images left out, targets, and the pretrained model."""
        data = training_data(config, list(config.pretrain.subjects))
        made = {"pretrained": Made(PRETRAIN), **position_inputs(config, list(config.pretrain.subjects))}
        if pools_clusters(config):
            made |= {"clusters": Made(CLUSTER_VOXELS), "embedder": Frozen("embedder")}
        return {"data": data, "split": Split(), "targets": Targets(low_level=True), **made}

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks."""
        places = {"voxel_clusters.neighbours": config.voxel_clusters.neighbours} if pools_clusters(config) else {}
        return determined_by_trainer(config) | determined_by_callbacks(config) | places

    def tags(self, config: DictConfig) -> list[str]:
        """Return subjects and the hours of an episode."""
        subjects = [f"subj{subject:02d}" for subject in config.pretrain.subjects]
        return [*subjects, f"hours={hours(config.data.num_sessions, config)}"]

    def check(self, config: DictConfig) -> None:
        """Check the budget."""
        Budget.of(config.finetune.episodes, "finetune.episodes")

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Align the hours, train on the other trials, and write the weights."""
        wanted = settings.finetune.episodes
        budget = Budget.of(wanted, self.name)
        options = trial_options(inputs["data"], settings, inputs["split"], num_sessions=settings.pretrain.num_sessions)
        options["batch_size"] = wanted.batch_size
        options["steps_per_epoch"] = budget.batches_per_epoch(settings.trainer.get("accumulate_grad_batches"))
        subjects = list(settings.pretrain.subjects)
        data = EpisodeDataModule(
            inputs["data"].layout.root,
            subjects,
            episodes=wanted.per_subject,
            hours=math.inf if settings.data.num_sessions == "all" else settings.data.num_sessions,
            **options,
        )
        data.repetition_slots = repetition_slots(settings.model)
        add_targets(data, inputs["targets"])
        model = build_model(settings, [data.voxel_counts[subject] for subject in data.subjects])
        load_shared(model, inputs["pretrained"])
        align = _place if "clusters" in inputs else _fit_linear
        align(model, data, settings, inputs)
        model.freeze_all_but([part for part in model.parts() if part != "alignment"])
        title = f"training on {data.num_train_trials:,} trials of {len(data.subjects)} episodes"
        fit(
            model, data, work.folder, TrainingSettings.of(settings, work.name), budget=budget, title=title, log=work.log
        )


def _fit_linear(model: BrainDecoder, data: EpisodeDataModule, settings: Settings, inputs: Inputs) -> None:
    """Align the episodes' hours to the shared space."""
    space = SharedSpace.of(settings, inputs)
    for index, hour in enumerate(data.hours):
        found = space.align(data, hour)
        linear = model.get_submodule(f"alignment.network.linears.{index}")
        linear.load_state_dict({"weight": found.weight, "bias": found.bias})


def _place(model: BrainDecoder, data: EpisodeDataModule, settings: Settings, inputs: Inputs) -> None:
    """Place the voxels of the episodes among those of the other subjects, by their hours."""
    known, weights = KnownVoxels.read(inputs["clusters"]), read_weights(inputs["pretrained"] / WEIGHTS)
    ids = np.unique(np.concatenate([hour.stimulus_ids for hour in data.hours]))
    projected = known.project(inputs["embedder"], inputs["data"].stimuli, ids)  # (n, K)
    subjects = list(settings.pretrain.subjects)
    for index, (subject, hour) in enumerate(zip(data.subjects, data.hours, strict=True)):
        betas, shown = image_means(data.normalised_betas(hour), hour.stimulus_ids)
        own, neighbours = subjects.index(subject), settings.voxel_clusters.neighbours
        places = known.places(projected[np.searchsorted(ids, shown)], betas, neighbours, without=own)
        place_voxels(model, index, places, weights)


def _amount(config: DictConfig) -> str:
    """Return the sessions of an episode's hour, for labels."""
    sessions = config.data.num_sessions
    return "half" if sessions == "all" else f"{sessions}h"


EPISODES = Episodes()
