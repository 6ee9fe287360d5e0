"""Synthetic trials of the new subject: images of the pretraining subjects, with responses of an encoder of its own.

The encoder is fitted on the training trials in use alone, as are its errors, which are added as noise. Brain-IT and
SynBrain train on such trials.

Legend: n training images, t trials, m synthetic trials, V voxels, F features.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.data.layout.trials import is_validation
from mindeye_pl.data.synthetic import SyntheticTrials
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.encoding import RidgeEncoder, held_out_residuals
from mindeye_pl.schema.nodes.run import SyntheticNoise
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, hours, image_means, subject_tags, subject_trials, trial_data
from mindeye_pl.steps.inputs.encoder_features import features_of_images
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.splits import Split, test_data, training_data
from mindeye_pl.store.atomic import replacing, write_array

IDS, BETAS = "stimulus_ids.npy", "betas.npy"

#: Images whose responses are in memory at once in float32.
_IMAGES_AT_ONCE = 1024


class SynthesiseTrials(Step):
    """Predicts responses of `data.subject` to the training images of `pretrain.subjects`."""

    name = "synthetic_trials"
    title = "Synthetic trials"
    keys = (
        *("seed", "data.betas", "data.validation_fraction", "data.validation_images", "data.test_split"),
        *("data.subject", "data.num_sessions", "finetune.synthetic_noise"),
        *("pretrain.subjects", "pretrain.num_sessions"),
    )
    runtime_keys = (*TEST_RUNTIME, "data.repetitions", "data.max_repetitions", "data.averaging")

    def label(self, config: DictConfig) -> str:
        """Return subject and hours."""
        return f"subj{config.data.subject:02d}-{hours(config.data.num_sessions, config)}h"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trials of all subjects, the tested images, the images left out, and the embedder."""
        own, others = test_data(config), training_data(config, list(config.pretrain.subjects))
        return {"own": own, "others": others, "split": Split(), "embedder": Frozen("embedder")}

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit the encoder and its errors, and write the images and their responses."""
        subject, own, left_out, data_settings = settings.data.subject, inputs["own"], inputs["split"], settings.data
        data = subject_trials(own, settings, left_out)
        (trials,) = data.train_trials
        betas = data.normalised_betas(trials)  # (t, V)
        means, ids = image_means(betas, trials.stimulus_ids)
        subjects, sessions = list(settings.pretrain.subjects), settings.pretrain.num_sessions
        others = trial_data(inputs["others"], settings, left_out, subjects=subjects, num_sessions=sessions)
        shown = np.unique(np.concatenate([one.stimulus_ids for one in others.train_trials]))
        never = own.test_ids(subject, data_settings.test_split, left_out)
        held_out = is_validation(shown, data_settings.validation_fraction, settings.seed)
        new = np.setdiff1d(shown[~held_out], np.concatenate([data.trials[0].stimulus_ids, never]))  # (m,)
        if not len(new):
            what, fix = (
                "the pretraining subjects saw no image that is new to the subject",
                "finetune.synthetic_fraction=0",
            )
            raise UserError(f"{what} {subject}", got=f"{len(shown)} images", fix=fix)
        console.print(f"  fitting the encoder of subject {subject} on {len(ids):,} images, for {len(new):,} others")
        stimuli, embedder = own.stimuli, inputs["embedder"]
        features = np.concatenate(list(features_of_images(embedder, stimuli, ids)))  # (n, F)
        encoder = RidgeEncoder.fit(features, means, stimulus_ids=ids)
        image = np.searchsorted(ids, trials.stimulus_ids)
        residuals = held_out_residuals(features, means, image, betas, seed=settings.seed)
        rng = np.random.default_rng((settings.seed, subject))
        with replacing(work.folder / BETAS) as temporary:
            # By its handle: numpy appends .npy to other names.
            predicted = np.lib.format.open_memmap(temporary, "w+", np.float16, (len(new), betas.shape[1]))
            for start in range(0, len(new), _IMAGES_AT_ONCE):
                part = new[start : start + _IMAGES_AT_ONCE]
                made = encoder.predict(
                    np.concatenate(list(features_of_images(embedder, stimuli, part))), stimulus_ids=part
                )
                predicted[start : start + len(part)] = made + draw_noise(
                    residuals, len(part), settings.finetune.synthetic_noise, rng
                )
            predicted.flush()
        write_array(work.folder / IDS, new)


SYNTHESISE_TRIALS = SynthesiseTrials()


def draw_noise(residuals: np.ndarray, count: int, kind: SyntheticNoise, rng: np.random.Generator) -> np.ndarray:
    """Return noise `(count, V)` float32 for predicted responses, from the errors `(t, V)` of held-out trials.

    Args:
        residuals: errors of an encoder that did not see the trials.
        count: trials.
        kind: `none` (Brain-IT) | `independent`, normal with the variance of each voxel | `residuals`, whole patterns of
            errors drawn with replacement, so that voxels are correlated as they are in the data.
        rng: of the draws.
    """
    if kind == "none":
        return np.zeros((count, residuals.shape[1]), np.float32)
    if kind == "independent":
        deviation = np.sqrt(np.square(residuals, dtype=np.float64).mean(0))
        return (deviation * rng.standard_normal((count, residuals.shape[1]))).astype(np.float32)
    return residuals[rng.integers(len(residuals), size=count)]


def read_synthetic(folder: Path, fraction: float) -> SyntheticTrials:
    """Return the trials of a finished `synthetic_trials`, memory-mapped."""
    return SyntheticTrials(np.load(folder / IDS), np.load(folder / BETAS, mmap_mode="r"), fraction)
