"""Evaluation of what is read from brains: retrieval, by repetitions too, beside null rows, ridge and the ceiling.

Legend: n test images, R responses to each, V voxels, S tokens, D token width.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.datamodule import NSDDataModule
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.betas import read_betas
from mindeye_pl.data.nsd.test_set import TestSet, average_repetitions, first_repetitions
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.metrics.effective_rank import effective_rank
from mindeye_pl.metrics.nulls import shuffled_scores
from mindeye_pl.metrics.retrieval import retrieval_of_each, retrieval_scores
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.trained_model import checkpoint_identity, checkpoint_steps, trained_model
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.evaluation.baselines import image_means, noise_free_pair, ridge_tokens
from mindeye_pl.steps.evaluation.test_set_log import count_evaluation
from mindeye_pl.steps.inputs.captions import captions_identity, learns_captions, true_tokens
from mindeye_pl.steps.inputs.frozen_models import identity
from mindeye_pl.steps.inputs.simulate import data_inputs, data_steps, is_simulated, layout
from mindeye_pl.steps.inputs.targets import target_tokens
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec
from mindeye_pl.store.atomic import write_tensors, write_text
from mindeye_pl.types import Prediction

PREDICTIONS = "predictions.safetensors"

#: Images that the model reads at once.
_IMAGES_AT_ONCE = 32

#: The lines of `scores.json`, by the names that the report knows.
MODEL, SHUFFLED, RIDGE, CEILING = "model", "shuffled", "ridge", "ceiling"
#: A model that reads captions too, asked for those instead of images.
CAPTIONS = "captions"
#: The model asked with the first response alone, with the first two, with all three.
REPETITIONS = tuple(f"repetitions_{count}" for count in range(1, nsd.REPETITIONS + 1))


@dataclass(frozen=True)
class TestImages:
    """What is asked of every method.

    Attributes:
        subject: whose brain.
        brains: the responses.
        clip: `(n, S, D)` target tokens of the images.
    """

    __test__ = False

    subject: int
    brains: TestSet
    clip: Tensor


def _needs(run: Run) -> Sequence[Step]:
    return (*data_steps(run), *checkpoint_steps(run))


def _spec(run: Run) -> ArtifactSpec:
    config = run.config
    by = identity(run, "embedder") | run.plain(
        "metrics", "seed", "data.subject", "data.num_sessions", "data.betas", "data.repetitions"
    )
    by |= run.plain("data.split", "data.test_split", "data.validation_fraction")
    if learns_captions(run):
        by |= captions_identity(run)
    label, own_by, own_inputs = checkpoint_identity(run)
    inputs = data_inputs(run, [config.data.subject], ("train", config.data.test_split)) | own_inputs
    return ArtifactSpec("evaluate", label, by | own_by, inputs)


def _build(run: Run, folder: Path) -> None:
    subject = run.config.data.subject
    data = subject_data(run)
    model = trained_model(run, data.voxel_counts[subject])
    brains = data.test_set(subject)
    tokens = target_tokens(run, brains.stimulus_ids.numpy())
    images = TestImages(subject, brains, torch.from_numpy(tokens[brains.stimulus_ids.numpy()]).float())

    evaluations = count_evaluation(run, EVALUATE, folder)
    console.print(f"  evaluation {evaluations} of this test set")
    rows = {}
    for count, name in enumerate(REPETITIONS, start=1):
        weights = first_repetitions(brains.num_repetitions, count)
        rows[name] = _scores(run, predict_retrieval(model, brains, weights), images.clip)
    retrieval = predict_retrieval(model, brains, brains.weights)  # (n, S, D)
    rows[MODEL] = _scores(run, retrieval, images.clip)
    if learns_captions(run):
        read = predict_averaged(model, brains, brains.weights, lambda outputs: outputs.tokens[:, 1:])  # (n, 1, D)
        rows[CAPTIONS] = _scores(run, read, true_tokens(run, brains.stimulus_ids.numpy())[:, 1:].float())
    rows[SHUFFLED] = shuffled_scores(
        brain=retrieval, clip=images.clip, top_k=list(run.config.metrics.top_k), seed=run.config.seed
    )
    console.print("  fitting the ridge baseline")
    rows |= _baselines(run, data, images)
    _save_predictions(folder / PREDICTIONS, brains, retrieval)
    content = {
        "subject": subject,
        "num_sessions": run.config.data.num_sessions,
        "simulated": is_simulated(run),
        "stimulus_ids": brains.stimulus_ids.tolist(),
        "effective_rank": {
            "predicted": float(effective_rank(retrieval)),
            "true": float(effective_rank(images.clip)),
            "most": len(retrieval) - 1,
        },
        "rows": {name: [score.to_dict() for score in scores] for name, scores in rows.items()},
        "of_each_image": {MODEL: _of_each(run, retrieval, images.clip)},
    }
    write_text(folder / SCORES, json.dumps(content, indent=1))


def predict_retrieval(model: BrainDecoder, brains: TestSet, weights: Tensor) -> Tensor:
    """Retrieval embeddings `(n, S, D)` of the test images; see `predict_averaged`."""
    return predict_averaged(model, brains, weights, lambda outputs: outputs.retrieval)


def predict_averaged(
    model: BrainDecoder, brains: TestSet, weights: Tensor, part: Callable[[Prediction], Tensor]
) -> Tensor:
    """A part of what is read from the test images, the outputs for an image's responses averaged.

    Args:
        model: in eval mode.
        brains: the responses.
        weights: `(n, R)` share of each response in an image's answer.
        part: of the outputs, `(B, S, D)`.

    Returns:
        `(n, S, D)` float32 on the CPU.
    """
    averaged = []
    for voxels, shares in zip(brains.voxels.split(_IMAGES_AT_ONCE), weights.split(_IMAGES_AT_ONCE), strict=True):
        outputs = part(model.predict(voxels.flatten(0, 1).to(model.device))).float().cpu()  # (b * R, S, D)
        averaged.append(average_repetitions(outputs.unflatten(0, shares.shape), shares))
    return torch.cat(averaged)


def _scores(run: Run, brain: Tensor, clip: Tensor) -> list[Score]:
    settings = run.config.metrics
    return retrieval_scores(
        brain=brain,
        clip=clip,
        pool_size=settings.pool_size,
        num_pools=settings.num_pools,
        top_k=list(settings.top_k),
        num_resamples=settings.bootstrap_resamples,
        seed=run.config.seed,
    )


def _of_each(run: Run, brain: Tensor, clip: Tensor) -> dict[str, list[float]]:
    settings = run.config.metrics
    each = retrieval_of_each(
        brain=brain, clip=clip, pool_size=settings.pool_size, num_pools=settings.num_pools, seed=run.config.seed
    )
    return {name: values.round(6).tolist() for name, values in each.items()}


def _baselines(run: Run, data: NSDDataModule, images: TestImages) -> dict[str, list[Score]]:
    """Ridge from the model's own training trials and, in a simulation, from responses without noise."""
    (trials,) = data.train_trials
    normalise = data.normalisation(images.subject)
    betas = normalise(read_betas(layout(run), images.subject, trials.beta_rows))  # (trials, V)
    voxels, ids = image_means(betas, trials.stimulus_ids)
    tokens = target_tokens(run, ids)
    alphas = list(run.config.metrics.ridge_alphas)
    test_voxels = average_repetitions(images.brains.voxels, images.brains.weights).numpy()  # (n, V)
    predicted = ridge_tokens(voxels, tokens[ids], test_voxels, alphas)
    rows = {RIDGE: _scores(run, torch.from_numpy(predicted), images.clip)}
    if is_simulated(run):
        everything = subject_data(run, "all")
        ids = np.unique(everything.train_trials[0].stimulus_ids)
        tokens = target_tokens(run, ids)
        clean, test_clean = noise_free_pair(layout(run), images.subject, ids, images.brains.stimulus_ids.numpy())
        predicted = ridge_tokens(clean, tokens[ids], test_clean, alphas)
        rows[CEILING] = _scores(run, torch.from_numpy(predicted), images.clip)
    return rows


def _save_predictions(path: Path, brains: TestSet, retrieval: Tensor) -> None:
    write_tensors(path, {"stimulus_ids": brains.stimulus_ids, "retrieval": retrieval.half()})


def read_scores(artifact: Artifact, row: str) -> tuple[Score, ...]:
    """The scores of one line of an evaluation, empty where it has no such line."""
    content = json.loads((artifact.folder / SCORES).read_text())
    return tuple(Score.from_dict(plain) for plain in content["rows"].get(row, ()))


EVALUATE = Step("evaluate", _spec, _needs, _build)
