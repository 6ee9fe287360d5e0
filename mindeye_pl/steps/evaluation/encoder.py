"""The ridge encoder of a subject: images to the betas that they should evoke, fitted on training trials alone.

It scores reconstructions by what they would evoke. All training trials of the subject are used, however few the decoder
had: the measure stays the same along a curve over hours.

Legend: n images, V voxels, S tokens, D token width, F features.
"""

from collections.abc import Callable
from dataclasses import fields
from math import isqrt
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.nsd.betas import read_betas
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.metrics.encoding import RidgeEncoder, small_images
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.evaluation.baselines import image_means
from mindeye_pl.steps.inputs.frozen_models import identity, load_model
from mindeye_pl.steps.inputs.simulate import data_steps, layout
from mindeye_pl.steps.inputs.splits import split_identity, training_inputs
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_arrays

ENCODER = "encoder.safetensors"

#: Tokens are averaged over cells of a grid of so many rows and columns: bigG's would be half a million features.
_CELLS = 4
_AT_ONCE = 64


def _spec(run: Run) -> ArtifactSpec:
    subject = run.config.data.subject
    by = identity(run, "embedder") | run.plain("data.subject", "data.betas", "data.split", "data.validation_fraction")
    by |= {"seed": run.config.seed} | split_identity(run)
    return ArtifactSpec("fit_encoder", f"subj0{subject}-ridge", by, training_inputs(run, [subject]))


def _build(run: Run, folder: Path) -> None:
    subject = run.config.data.subject
    data = subject_data(run, "all")
    (trials,) = data.train_trials
    betas = data.normalisation(subject)(read_betas(layout(run), subject, trials.beta_rows))  # (trials, V)
    means, ids = image_means(betas, trials.stimulus_ids)
    console.print(f"  fitting the ridge encoder of subject {subject} on {len(ids):,} images")
    stimuli, features_of = Stimuli(layout(run).stimuli), encoder_features(run)
    parts = [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
    features = np.concatenate([features_of(torch.from_numpy(stimuli.read(part)).float()).numpy() for part in parts])
    _save(folder / ENCODER, RidgeEncoder.fit(features, means, stimulus_ids=ids))


def encoder_features(run: Run) -> Callable[[Tensor], Tensor]:
    """Images `(n, 3, H, W)` in [0, 1] to features `(n, F)` float32 on the CPU: token means and the small image."""
    device = run.device
    embedder: CLIPImageEmbedder = load_model(run, "embedder").to(device)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        tokens = embedder(images.to(device)).float()  # (n, S, D)
        side = isqrt(tokens.shape[1])
        grid = tokens[:, -(side**2) :].mT.unflatten(2, (side, side))  # (n, D, rows, columns), without a class token
        seen = F.adaptive_avg_pool2d(grid, min(_CELLS, side)).flatten(1).cpu()
        groups = (seen, small_images(images).flatten(1) - 0.5)
        # One scale for both: a feature counts by what it varies, and the groups differ in number and in unit.
        return torch.cat([group / group.shape[1] ** 0.5 for group in groups], dim=1)

    return features


def _save(path: Path, encoder: RidgeEncoder) -> None:
    write_arrays(path, {field.name: getattr(encoder, field.name) for field in fields(encoder)})


def load_encoder(run: Run) -> RidgeEncoder:
    """The subject's encoder, fitted now where it was not."""
    from safetensors.numpy import load_file

    return RidgeEncoder(**load_file(str(run.make(FIT_ENCODER).folder / ENCODER)))


FIT_ENCODER = Step("fit_encoder", _spec, data_steps, _build)
