"""Trials of the subjects that a decoder from support sets learns from.

Betas are read as stored, z-scored by session: statistics over the sessions in use would tell more of a new subject than
its support set.

Legend: N images of a subject, T trials, V voxels, d features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.splits import LeftOut
from mindeye_pl.data.layout.trials import NumSessions
from mindeye_pl.engine.settings import Settings
from mindeye_pl.nn.in_context.episodes import KnownSubject
from mindeye_pl.nn.in_context.image_features import ImageFeatures
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.targets import ImageTargets

#: Settings of the trials that the decoder learns from.
KNOWN_TRIALS = ("seed", "pretrain.subjects", "pretrain.num_sessions", "in_context.images")
#: Settings of the same data module that change nothing in them, or that its test set alone depends on.
TRIALS_RUNTIME = (*("data.repetitions", "data.max_repetitions", "data.test_split"), "data.test_images_in_training")

#: Images whose tokens are in memory as float32 at once: a gigabyte at the papers' size.
_IMAGES_PER_BLOCK = 512


@dataclass(frozen=True)
class KnownTrials:
    """Trials of one subject: image ids `(N,)` ascending, each trial's row there `(T,)`, responses `(T, V)` float32."""

    ids: np.ndarray
    image: np.ndarray
    responses: np.ndarray

    def subject(self, features: ImageFeatures, targets: ImageTargets) -> KnownSubject:
        """Return the subject with the features of its images."""
        store = targets.tokens(self.ids)
        parts = np.array_split(self.ids, math.ceil(len(self.ids) / _IMAGES_PER_BLOCK))
        rows = torch.cat([features.encode(store[some]) for some in parts])
        return KnownSubject.of(rows, torch.from_numpy(self.responses), torch.from_numpy(self.image))


def in_context_trials(
    dataset: Dataset, settings: Settings, left_out: LeftOut | None, subjects: Sequence[int], sessions: NumSessions
) -> TrialDataModule:
    """Return all training trials of some subjects, betas as stored, and their test sets."""
    data = settings.data
    return TrialDataModule(
        dataset.layout.root,
        list(subjects),
        cache_dir=dataset.cache,
        num_sessions=sessions,
        repetitions=data.repetitions,
        max_repetitions=data.max_repetitions,
        test_split=data.test_split,
        left_out=left_out,
        validation_fraction=0,
        test_images=data.test_images_in_training,
    )


def read_known(dataset: Dataset, settings: Settings, left_out: LeftOut | None) -> dict[int, KnownTrials]:
    """Return the trials of up to `in_context.images` images of each subject of `pretrain.subjects`."""
    subjects, sessions = settings.pretrain.subjects, settings.pretrain.num_sessions
    data = in_context_trials(dataset, settings, left_out, subjects, sessions)
    found = {}
    for subject, trials in zip(data.subjects, data.train_trials, strict=True):
        ids = np.unique(trials.stimulus_ids)
        rng = np.random.default_rng((settings.seed, subject))
        kept = trials.select(np.isin(trials.stimulus_ids, rng.permutation(ids)[: settings.in_context.images]))
        ids, image = np.unique(kept.stimulus_ids, return_inverse=True)
        found[subject] = KnownTrials(ids, image, read_betas(data.layout, subject, kept.beta_rows))
    return found
