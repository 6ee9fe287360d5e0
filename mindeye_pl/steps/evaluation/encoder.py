"""The ridge encoder of a subject: images to the betas that they should evoke, fitted on training trials alone.

It scores reconstructions by what they would evoke. All training trials of the subject are used, however few the decoder
had: the measure stays the same along a curve over hours.

Legend: n images, V voxels.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Step, Work
from mindeye_pl.metrics.encoding import RidgeEncoder
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, mean_responses, trial_data
from mindeye_pl.steps.inputs.encoder_features import features_of_images
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.store.atomic import write_arrays
from mindeye_pl.store.own_files import read_arrays

ENCODER = "encoder.safetensors"


class FitEncoder(Step):
    """Fits the ridge encoder of `data.subject` on all of its training trials."""

    name = "fit_encoder"
    title = "Ridge encoder"
    keys = ("seed", "data.subject", "data.betas", "data.validation_fraction", "data.validation_images")
    runtime_keys = (*TEST_RUNTIME, "data.repetitions", "data.max_repetitions", "data.averaging", "data.test_split")

    def label(self, config: DictConfig) -> str:
        """Return the subject."""
        return f"subj{config.data.subject:02d}-ridge"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the training trials, the images left out, and the embedder."""
        data = training_data(config, [config.data.subject])
        return {"data": data, "split": Split(), "embedder": Frozen("embedder")}

    def tags(self, config: DictConfig) -> list[str]:
        """Return the subject; all of its hours are used."""
        return [f"subj{config.data.subject:02d}", "hours=all"]

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, and write the weights."""
        subject, dataset = settings.data.subject, inputs["data"]
        data = trial_data(dataset, settings, inputs["split"], subjects=[subject], num_sessions="all")
        means, ids = mean_responses(data, subject)
        console.print(f"  fitting the ridge encoder of subject {subject} on {len(ids):,} images")
        features = np.concatenate(list(features_of_images(inputs["embedder"], dataset.stimuli, ids)))
        encoder = RidgeEncoder.fit(features, means, stimulus_ids=ids)
        write_arrays(work.folder / ENCODER, vars(encoder))


FIT_ENCODER = FitEncoder()


def load_encoder(folder: Path) -> RidgeEncoder:
    """Return the encoder of a finished `fit_encoder`."""
    return RidgeEncoder(**read_arrays(folder / ENCODER))
