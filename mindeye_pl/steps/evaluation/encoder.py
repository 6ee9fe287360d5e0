"""The ridge encoder of a subject: images to the betas that they should evoke, fitted on training trials alone.

It scores reconstructions by what they would evoke. All training trials of the subject are used, however few the decoder
had: the measure stays the same along a curve over hours.

Legend: n images, V voxels, S tokens, D token width, F features.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Step, Work
from mindeye_pl.metrics.encoding import RidgeEncoder
from mindeye_pl.metrics.image_features import fourier_features, gabor_energies, small_images
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, trial_data
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.store.atomic import write_arrays
from mindeye_pl.store.own_files import read_arrays

ENCODER = "encoder.safetensors"

#: Tokens are averaged over cells of a grid of so many rows and columns: bigG's would be half a million features.
_CELLS = 4
#: Energies vary about a tenth, tokens about 1.
_ENERGY_WEIGHT = 3.0
_BATCH_SIZE = 64


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
        (trials,) = data.train_trials
        betas = data.normalisation(subject)(read_betas(dataset.layout, subject, trials.beta_rows))  # (trials, V)
        means, ids = image_means(betas, trials.stimulus_ids)
        console.print(f"  fitting the ridge encoder of subject {subject} on {len(ids):,} images")
        stimuli, features_of = dataset.stimuli, encoder_features(inputs["embedder"])
        parts = [ids[start : start + _BATCH_SIZE] for start in range(0, len(ids), _BATCH_SIZE)]
        features = [features_of(torch.from_numpy(stimuli.read(part)).float()).numpy() for part in parts]
        encoder = RidgeEncoder.fit(np.concatenate(features), means, stimulus_ids=ids)
        write_arrays(work.folder / ENCODER, vars(encoder))


FIT_ENCODER = FitEncoder()


def image_means(voxels: np.ndarray, stimulus_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each image's trials `(trials, V)`, `(n, V)` float32, and the `(n,)` ascending ids."""
    ids, inverse, counts = np.unique(stimulus_ids, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    sums = np.add.reduceat(voxels[order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    return (sums / counts[:, None]).astype(np.float32), ids


def encoder_features(frozen: FrozenModel) -> Callable[[Tensor], Tensor]:
    """Return the function from images `(n, 3, H, W)` in [0, 1] to features `(n, F)` float32 on the CPU."""
    embedder: CLIPImageEmbedder = frozen.load().to(frozen.device)
    return partial(image_features, embedder)


@torch.inference_mode()
def image_features(embedder: CLIPImageEmbedder, images: Tensor) -> Tensor:
    """Return the features `(n, F)` float32 of images `(n, 3, H, W)` in [0, 1], on the CPU.

    Features are means of tokens over a grid of cells, the image shrunk, its contrast by place, frequency and
    orientation, and a non-linear function of the whole image's embedding.
    """
    on_device = images.to(next(embedder.parameters()).device)
    tokens, pooled = embedder.with_pooled(on_device)  # (n, S, D), (n, E)
    side = isqrt(tokens.shape[1])
    grid = tokens[:, -(side**2) :].float().mT.unflatten(2, (side, side))  # (n, D, rows, columns), without a class token
    groups = (
        F.adaptive_avg_pool2d(grid, min(_CELLS, side)).flatten(1).cpu(),
        small_images(images).flatten(1) - 0.5,
        _ENERGY_WEIGHT * gabor_energies(images).flatten(1),
    )
    # Means, not sums: a feature counts by what it varies, and the groups differ in number and in unit.
    scaled = [group / group.shape[1] ** 0.5 for group in groups]
    return torch.cat([*scaled, fourier_features(pooled)], dim=1)


def load_encoder(folder: Path) -> RidgeEncoder:
    """Return the encoder of a finished `fit_encoder`."""
    return RidgeEncoder(**read_arrays(folder / ENCODER))
