"""Retrieval from the predictions of a support set, beside ridge regression from the same images.

Legend: n support images, m test images, S tokens, D token width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.metrics.retrieval import QueryHits, mean_retrieval_scores, retrieval_hits, shuffled_scores
from mindeye_pl.metrics.ridge_tuning import tuned_ridge
from mindeye_pl.metrics.statistics.score import COLUMNS, SCORES, Score, score_summary, score_table
from mindeye_pl.steps.baselines.ridge import RidgePrediction, choose_for_retrieval
from mindeye_pl.steps.brain.in_context.decode import (
    BAYESIAN,
    DECODE_IN_CONTEXT,
    SUPPORT_KEYS,
    SUPPORT_RUNTIME,
    TRANSFORMER,
    SupportSets,
    part_name,
    predicted_tokens,
)
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR, FittedPrior
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json, read_or_make, read_tensors

#: Lines of each size of the support set; `RIDGE` from three images on.
RIDGE = "ridge"
#: Row of the decoder's predictions from the largest support set, the brains shuffled.
SHUFFLED = "shuffled"
_FEWEST_FOR_RIDGE = 3


class EvaluateInContext(Step):
    """Scores each decoder at each size of the support set, means over the draws."""

    name = "evaluate_in_context"
    title = "Evaluation of decoding from a support set"
    keys = (*SUPPORT_KEYS, "in_context.decoder", "metrics")
    runtime_keys = SUPPORT_RUNTIME
    artifact_type = SCORES_TYPE

    def label(self, config: DictConfig) -> str:
        """Return subject and decoder."""
        return DECODE_IN_CONTEXT.label(config)

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return DECODE_IN_CONTEXT.tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the predictions, the prior that turns them to tokens, and the subject's data."""
        made = {"predictions": Made(DECODE_IN_CONTEXT), "prior": Made(FIT_VOXEL_PRIOR), "test_set": TestSetLog()}
        return {"data": test_data(config), "split": Split(), "targets": Targets(), **made}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Score; the hits of each support set are a file, so that a killed build continues."""
        sets = SupportSets.read(inputs["data"], settings, inputs["split"])
        metrics, own = settings.metrics, settings.in_context
        scorer = _Scorer(sets, inputs["targets"], FittedPrior.read(inputs["prior"]), metrics, settings.seed)
        console.print(f"  evaluation {inputs['test_set'].count(work)} of this test set")
        hits: dict[str, list[list[QueryHits]]] = {}
        for size, draw in sets.draws(own.context, own.draws):
            part = read_tensors(inputs["predictions"] / part_name(size, draw))
            path = work.folder / f"hits-{size:05d}-{draw}.json"

            def make(path: Path = path, part: Mapping[str, Tensor] = part) -> None:
                write_json(path, {line: [_plain(each) for each in some] for line, some in scorer.hits(part).items()})

            for line, found in read_or_make(path, read_json, make).items():
                hits.setdefault(row_name(line, size), []).append([_restored(plain) for plain in found])
        rows = {row: mean_retrieval_scores(draws) for row, draws in hits.items()}
        largest = read_tensors(inputs["predictions"] / part_name(max(own.context), 0))
        brain = predicted_tokens(scorer.fitted, largest[own.decoder])
        rows[SHUFFLED] = shuffled_scores(
            brain=brain, clip=scorer.clip.flatten(1), top_k=list(metrics.top_k), seed=settings.seed
        )
        content = {
            "subject": settings.data.subject,
            "simulated": inputs["data"].is_simulated,
            "decoder": own.decoder,
            "context": list(own.context),
            "draws": own.draws,
            "available": len(sets.ids),
            "rows": {name: [score.to_dict() for score in row] for name, row in rows.items()},
        }
        write_json(work.folder / SCORES, content)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the scores of the decoder at each size, and the table."""
        content = read_in_context(artifact)
        for size in content["context"]:
            row = row_name(content["decoder"], size)
            record.summarise(score_summary(content["rows"][row], f"context_{size}_"))
        kinds = {row: "baseline" if row.startswith(RIDGE) else "model" for row in content["rows"]}
        record.log_table("in_context", COLUMNS, score_table(content["rows"], kinds | {SHUFFLED: "null"}))


EVALUATE_IN_CONTEXT = EvaluateInContext()


def row_name(line: str, size: int) -> str:
    """As in `bayesian_200`."""
    return f"{line}_{size}"


def read_in_context(artifact: Artifact) -> dict[str, Any]:
    """Return all that an evaluation found."""
    content: dict[str, Any] = read_json(artifact.folder / SCORES)
    return content


def scores_at(content: Mapping[str, Any], line: str, size: int) -> tuple[Score, ...]:
    """Return the scores of a line at a size of the support set; empty where it has none."""
    return tuple(Score.from_dict(plain) for plain in content["rows"].get(row_name(line, size), ()))


@dataclass(frozen=True)
class _Scorer:
    sets: SupportSets
    targets: ImageTargets
    fitted: FittedPrior
    metrics: DictConfig
    seed: int

    @cached_property
    def clip(self) -> Tensor:
        """Target tokens `(m, S, D)` float32 of the test images."""
        ids = self.sets.test_ids.numpy()
        return torch.from_numpy(self.targets.tokens(ids, side=self.metrics.target_size)[ids]).float()

    def hits(self, part: Mapping[str, Tensor]) -> dict[str, list[QueryHits]]:
        """Return the hits of each line from one support set."""
        metrics, clip = self.metrics, self.clip.flatten(1)
        pools = {"pool_size": metrics.pool_size, "num_pools": metrics.num_pools, "seed": self.seed}
        score = partial(retrieval_hits, clip=clip, top_k=list(metrics.top_k), **pools)
        found = {
            line: score(brain=predicted_tokens(self.fitted, part[line]))
            for line in (BAYESIAN, TRANSFORMER)
            if line in part
        }
        if len(part["support_ids"]) >= _FEWEST_FOR_RIDGE:
            found[RIDGE] = score(brain=self._ridge(part["support_ids"].numpy()).flatten(1))
        return found

    def _ridge(self, ids: np.ndarray) -> Tensor:
        """Return tokens `(m, S, D)` by ridge regression from the trials of the support images, tuned on these alone."""
        sets, tokens = self.sets, _Tokens(self.targets)
        trials = np.isin(sets.shown, ids)
        rows, tested = tokens(ids), sets.test_responses.numpy()
        penalties, device = list(self.metrics.ridge_alphas), self.targets.embeddings.device
        given = (sets.responses[trials], sets.shown[trials], rows.reshape(len(rows), -1), tested)
        found = RidgePrediction.of_fit(tuned_ridge(*given, penalties, device=device), sets.test_ids, rows.shape[1:])
        found.choices.update(choose_for_retrieval(found, tokens))
        return found.rescaled


@dataclass(frozen=True)
class _Tokens:
    """Target tokens `(n, S, D)` float16 of image ids `(n,)`."""

    targets: ImageTargets

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return self.targets.tokens(ids)[ids]


def _plain(hits: QueryHits) -> dict[str, Any]:
    return vars(hits) | {"total": hits.total.tolist(), "asked": hits.asked.tolist(), "top_k": list(hits.top_k)}


def _restored(plain: Mapping[str, Any]) -> QueryHits:
    arrays: Sequence[np.ndarray] = (np.array(plain["total"], np.float64), np.array(plain["asked"], np.int64))
    return QueryHits(plain["name"], tuple(plain["top_k"]), plain["size"], *arrays)
