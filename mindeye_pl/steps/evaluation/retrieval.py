"""Evaluation of retrieval: by repetitions too, beside null rows, ridge regression and the noise-free ceiling.

Legend: n test images, R responses to each, V voxels, S tokens, D token width.
"""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.layout.test_set import first_repetitions
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Work
from mindeye_pl.metrics.effective_rank import effective_rank
from mindeye_pl.metrics.retrieval import retrieval_per_image, retrieval_scores, shuffled_scores
from mindeye_pl.metrics.statistics.score import COLUMNS, SCORES, Score, score_summary, score_table
from mindeye_pl.steps.baselines.ridge import RIDGE_NOISE_FREE, RIDGE_TOKENS, RidgePrediction, describe_choices
from mindeye_pl.steps.brain.bottleneck import Evaluated, EvaluationStep
from mindeye_pl.steps.brain.predictions import predict_averaged, predict_retrieval
from mindeye_pl.steps.brain.trials import TEST_RUNTIME, TEST_TRIALS, subject_trials
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json

PREDICTIONS = "predictions.safetensors"

#: The rows of `scores.json`, by the names that the report uses.
MODEL, SHUFFLED, RIDGE, CEILING = "model", "shuffled", "ridge", "ceiling"
#: A model that reads captions too, queried for those instead of images.
CAPTIONS = "captions"
#: The model given the first response alone, the first two, the first three.
REPETITIONS = tuple(f"repetitions_{count}" for count in (1, 2, 3))


class Evaluate(EvaluationStep):
    """Scores retrieval in both directions."""

    name = "evaluate"
    title = "Evaluation of retrieval"
    keys = (*TEST_TRIALS, "metrics")
    runtime_keys = TEST_RUNTIME
    artifact_type = SCORES_TYPE

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the test set, the trained model, the target tokens and those by ridge regression."""
        data, made = test_data(config), {"model": Evaluated(), "ridge": Made(RIDGE_TOKENS), "test_set": TestSetLog()}
        if data.is_simulated(config):
            made["ceiling"] = Made(RIDGE_NOISE_FREE)
        return {"data": data, "split": Split(), "targets": Targets(), **made}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Score the model, its null rows, its baseline and its ceiling."""
        subject, dataset, targets = settings.data.subject, inputs["data"], inputs["targets"]
        data = subject_trials(dataset, settings, inputs["split"])
        model = inputs["model"].load(data.voxel_counts[subject])
        brains = data.test_set(subject)
        ids = brains.stimulus_ids.numpy()
        clip = torch.from_numpy(targets.tokens(ids, side=settings.metrics.target_size)[ids]).float()  # (n, S, D)
        evaluations = inputs["test_set"].count(work)
        console.print(f"  evaluation {evaluations} of this test set")

        metrics = settings.metrics
        pools = {"pool_size": metrics.pool_size, "num_pools": metrics.num_pools, "seed": settings.seed}
        top_k = list(metrics.top_k)

        def scores(brain: Tensor, images: Tensor = clip) -> list[Score]:
            return retrieval_scores(brain=brain, clip=images, top_k=top_k, **pools)

        rows = {}
        slots = brains.weights.shape[1]
        for count, name in enumerate(REPETITIONS[:slots], start=1):
            weights = first_repetitions(brains.num_repetitions, count, slots)
            rows[name] = scores(predict_retrieval(model, brains, weights))
        retrieval = predict_retrieval(model, brains, brains.weights)  # (n, S, D)
        rows[MODEL] = scores(retrieval)
        if targets.captions is not None:
            read = predict_averaged(model, brains, brains.weights, lambda outputs: outputs.tokens[:, 1:])  # (n, 1, D)
            rows[CAPTIONS] = scores(read, targets.true_tokens(ids)[:, 1:].float())
        rows[SHUFFLED] = shuffled_scores(brain=retrieval, clip=clip, top_k=top_k, seed=settings.seed)
        ridge = RidgePrediction.read(inputs["ridge"]).first_tokens(clip.shape[1])
        assert torch.equal(ridge.stimulus_ids, brains.stimulus_ids), "ridge regression has the same test set"
        rows[RIDGE] = scores(ridge.rescaled)
        if "ceiling" in inputs:
            rows[CEILING] = scores(RidgePrediction.read(inputs["ceiling"]).first_tokens(clip.shape[1]).rescaled)
        predictions = {"stimulus_ids": brains.stimulus_ids, "retrieval": retrieval.half()}
        write_tensors(work.folder / PREDICTIONS, predictions)
        ranks = {"predicted": effective_rank(retrieval), "true": effective_rank(clip)}
        of_each = {
            name: retrieval_per_image(brain=brain, clip=clip, **pools)
            for name, brain in ((MODEL, retrieval), (RIDGE, ridge.rescaled))
        }
        content = {
            "subject": subject,
            "num_sessions": settings.data.num_sessions,
            "simulated": dataset.is_simulated,
            "stimulus_ids": brains.stimulus_ids.tolist(),
            "effective_rank": {**{name: float(rank) for name, rank in ranks.items()}, "most": len(retrieval) - 1},
            "rows": {name: [score.to_dict() for score in row] for name, row in rows.items()},
            "ridge": describe_choices(ridge.choices),
            "of_each_image": {
                line: {name: values.round(6).tolist() for name, values in each.items()}
                for line, each in of_each.items()
            },
        }
        write_json(work.folder / SCORES, content)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the scores and the effective rank."""
        content = read_content(artifact)
        rank = {f"effective_rank/{name}": value for name, value in content["effective_rank"].items()}
        record.summarise(score_summary(content["rows"][MODEL]) | rank)
        kinds = {SHUFFLED: "null", RIDGE: "baseline", CEILING: "ceiling"}
        record.log_table("retrieval", COLUMNS, score_table(content["rows"], kinds))


EVALUATE = Evaluate()


def read_content(artifact: Artifact) -> dict[str, Any]:
    """Return all that an evaluation of retrieval found."""
    content: dict[str, Any] = read_json(artifact.folder / SCORES)
    return content


def read_scores(artifact: Artifact, row: str) -> tuple[Score, ...]:
    """Return the scores of one row of an evaluation, empty where it has no such row."""
    content = read_content(artifact)
    return tuple(Score.from_dict(plain) for plain in content["rows"].get(row, ()))
