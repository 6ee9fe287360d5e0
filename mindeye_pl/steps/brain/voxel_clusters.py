"""Functional clusters of the pretraining subjects' voxels, and the place of a new subject's voxels among them.

They are made from training trials alone. An alignment that pools voxels by cluster needs them, see `ClusterPooling`.

Legend: n images, V voxels, K axes, C clusters, k neighbours, d width of a voxel's embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mindeye_pl.console import console
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.voxel_clusters import FeatureAxes, cluster_voxels, nearest_voxels, voxel_tuning
from mindeye_pl.nn.brain.cluster_pooling import ClusterPooling
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, hours, mean_responses, subject_tags, subject_trials, trial_data
from mindeye_pl.steps.inputs.encoder_features import features_of_images
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.store.atomic import write_arrays
from mindeye_pl.store.own_files import read_arrays

CLUSTERS, PLACES = "voxel_clusters.safetensors", "places.safetensors"

#: Images that the common axes are fitted on, drawn from all subjects'.
_MAX_AXES_IMAGES = 2000
_TRIALS = ("seed", "data.betas", "data.validation_fraction", "data.validation_images")
_RUNTIME = (*TEST_RUNTIME, "data.repetitions", "data.max_repetitions", "data.averaging", "data.test_split")


def pools_clusters(config: DictConfig) -> bool:
    """Return whether the model's alignment pools voxels by cluster."""
    return OmegaConf.select(config, "model.alignment.network.num_clusters") is not None


class ClusterVoxels(Step):
    """Clusters the voxels of all subjects of `pretrain.subjects` together."""

    name = "voxel_clusters"
    title = "Functional clusters of voxels"
    keys = (
        *_TRIALS,
        *("pretrain.subjects", "pretrain.num_sessions"),
        *("voxel_clusters.count", "voxel_clusters.axes", "voxel_clusters.covariance"),
    )
    runtime_keys = _RUNTIME

    def label(self, config: DictConfig) -> str:
        """Return subjects and number of clusters."""
        subjects = "".join(f"0{subject}" for subject in config.pretrain.subjects)
        return f"subj{subjects}-{config.voxel_clusters.count}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the training trials, the images left out, and the embedder."""
        data = training_data(config, list(config.pretrain.subjects))
        return {"data": data, "split": Split(), "embedder": Frozen("embedder")}

    def tags(self, config: DictConfig) -> list[str]:
        """Return subjects and hours."""
        subjects = [f"subj{subject:02d}" for subject in config.pretrain.subjects]
        return [*subjects, f"hours={hours(config.pretrain.num_sessions, config)}"]

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit the tuning of the voxels, cluster them, and write both with the common axes.

        Tuning is written in units of the mean length over all voxels.
        """
        subjects, wanted, dataset = list(settings.pretrain.subjects), settings.voxel_clusters, inputs["data"]
        sessions = settings.pretrain.num_sessions
        data = trial_data(dataset, settings, inputs["split"], subjects=subjects, num_sessions=sessions)
        shown = np.unique(np.concatenate([trials.stimulus_ids for trials in data.train_trials]))
        rng = np.random.default_rng(settings.seed)
        sample = np.sort(rng.permutation(shown)[:_MAX_AXES_IMAGES])
        embedder: FrozenModel = inputs["embedder"]
        axes = FeatureAxes.fit(np.concatenate(list(features_of_images(embedder, dataset.stimuli, sample))), wanted.axes)
        tuning = []
        for subject in subjects:
            betas, ids = mean_responses(data, subject)
            console.print(f"  fitting the ridge encoder of subject {subject} on {len(ids):,} images")
            parts = features_of_images(embedder, dataset.stimuli, ids)
            projected = np.concatenate([axes.project(part) for part in parts])
            tuning.append(voxel_tuning(projected, betas, axes.deviations))
        voxels = np.concatenate(tuning)  # (V of all subjects, K)
        scale = np.linalg.norm(voxels, axis=1).mean(keepdims=True)  # (1,)
        console.print(f"  clustering {len(voxels):,} voxels")
        clusters = cluster_voxels(voxels, wanted.count, covariance=wanted.covariance, seed=settings.seed)
        counts = np.array(list(map(len, tuning)))
        made = {"tuning": voxels / scale, "scale": scale, "clusters": clusters, "voxel_counts": counts}
        write_arrays(work.folder / CLUSTERS, vars(axes) | made)


CLUSTER_VOXELS = ClusterVoxels()


@dataclass(frozen=True)
class Places:
    """Places of a subject's voxels among the known ones.

    Attributes:
        clusters: `(V,)` int64, of the nearest known voxel.
        nearest: `(V, k)` int64 of known voxels, nearest first.
        tuning: `(V, K)` float32.
    """

    clusters: np.ndarray
    nearest: np.ndarray
    tuning: np.ndarray


@dataclass(frozen=True)
class KnownVoxels:
    """Voxels of the pretraining subjects, one subject after the other.

    Attributes:
        axes: that tuning is measured along.
        scale: `(1,)`, mean length of their tuning, its unit.
        tuning: `(V, K)` float32.
        clusters: `(V,)` int64.
        counts: voxels of each subject.
    """

    axes: FeatureAxes
    scale: np.ndarray
    tuning: np.ndarray
    clusters: np.ndarray
    counts: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the files of a finished `voxel_clusters`."""
        known = read_arrays(folder / CLUSTERS)
        axes = FeatureAxes(known["mean"], known["axes"], known["deviations"])
        return cls(axes, *(known[name] for name in ("scale", "tuning", "clusters", "voxel_counts")))

    def project(self, embedder: FrozenModel, stimuli: Stimuli, ids: np.ndarray) -> np.ndarray:
        """Return coordinates `(n, K)` of images `(n,)` along the axes."""
        return np.concatenate([self.axes.project(part) for part in features_of_images(embedder, stimuli, ids)])

    def places(
        self, projected: np.ndarray, betas: np.ndarray, neighbours: int, *, without: int | None = None
    ) -> Places:
        """Return the places of voxels by their mean responses `(n, V)` to projected images `(n, K)`.

        `without` leaves out the voxels of the subject at this index, as if it were not known.
        """
        candidates = np.arange(len(self.tuning))
        if without is not None:
            candidates = candidates[np.repeat(np.arange(len(self.counts)) != without, self.counts)]
        tuning = voxel_tuning(projected, betas, self.axes.deviations) / self.scale
        nearest = candidates[nearest_voxels(tuning, self.tuning[candidates], neighbours)]  # (V, k)
        return Places(self.clusters[nearest[:, 0]], nearest, tuning)


class PlaceVoxels(Step):
    """Assigns the voxels of `data.subject` to the clusters, from its own training trials in the sessions in use."""

    name = "place_voxels"
    title = "Clusters of a new subject's voxels"
    keys = (*_TRIALS, "data.subject", "data.num_sessions", "voxel_clusters.neighbours")
    runtime_keys = _RUNTIME

    def label(self, config: DictConfig) -> str:
        """Return subject and hours."""
        return f"subj{config.data.subject:02d}-{hours(config.data.num_sessions, config)}h"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the clusters, the training trials, the images left out, and the embedder."""
        data = training_data(config, [config.data.subject])
        clusters = {"clusters": Made(CLUSTER_VOXELS)}
        return {**clusters, "data": data, "split": Split(), "embedder": Frozen("embedder")}

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit the tuning of the voxels, find the nearest known ones, and write these and their clusters."""
        subject, dataset, known = settings.data.subject, inputs["data"], KnownVoxels.read(inputs["clusters"])
        betas, ids = mean_responses(subject_trials(dataset, settings, inputs["split"]), subject)
        projected = known.project(inputs["embedder"], dataset.stimuli, ids)
        places = known.places(projected, betas, settings.voxel_clusters.neighbours)
        write_arrays(work.folder / PLACES, vars(places) | {"count": np.array(len(known.tuning))})


PLACE_VOXELS = PlaceVoxels()


def place_pretraining_voxels(model: nn.Module, folder: Path) -> None:
    """Give a model of the pretraining subjects the clusters in the folder of `voxel_clusters`."""
    known = KnownVoxels.read(folder)
    ends = np.cumsum(known.counts)[:-1]
    for _, pooling in _poolings(model):
        places = zip(np.split(known.clusters, ends), np.split(known.tuning, ends), strict=True)
        for index, of_subject in enumerate(places):
            clusters, tuning = map(torch.from_numpy, of_subject)
            pooling.voxels.place(index, clusters, tuning if pooling.start == "tuning" else None)


def place_new_voxels(model: nn.Module, folder: Path, pretrained: Mapping[str, Tensor] | None, path: Path) -> None:
    """Give a model of one subject its clusters in the folder of `place_voxels`.

    A voxel's embedding starts as the mean of those that pretraining has learned for the voxels nearest to it. Without
    `pretrained` weights, those of `path`, it starts as in a pretraining. Raises a `UserError` for weights of other
    subjects.
    """
    stored = read_arrays(folder / PLACES)
    expected = int(stored.pop("count").item())
    if pretrained is not None:
        for learned in _learned_embeddings(model, pretrained).values():
            if (count := len(learned)) != expected:
                what, known = f"{path} was pretrained on other subjects", f"{expected} voxels, as clustered"
                raise UserError(what, got=f"{count} voxels", expected=known, fix="pretrain.subjects= its subjects")
    place_voxels(model, 0, Places(**stored), pretrained)


def place_voxels(model: nn.Module, index: int, places: Places, pretrained: Mapping[str, Tensor] | None) -> None:
    """Give the subject at an index its clusters, and embeddings as `place_new_voxels`."""
    learned = {} if pretrained is None else _learned_embeddings(model, pretrained)
    nearest, tuning, clusters = map(torch.from_numpy, (places.nearest, places.tuning, places.clusters))
    for name, pooling in _poolings(model):
        start = tuning if pooling.start == "tuning" else None
        if name in learned:
            start = learned[name][nearest].mean(1)  # (V, d)
        pooling.voxels.place(index, clusters, start)


def _learned_embeddings(model: nn.Module, pretrained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the embeddings `(V, d)` of all pretraining subjects' voxels, by the name of the pooling."""
    return {
        name: torch.cat([each for key, each in pretrained.items() if key.startswith(f"{name}.voxels.embeddings.")])
        for name, _ in _poolings(model)
    }


def _poolings(model: nn.Module) -> list[tuple[str, ClusterPooling]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ClusterPooling)]
