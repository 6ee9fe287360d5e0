"""A sweep's jobs as cells of a table: those that differ in nothing but the seed are one cell.

Legend: K seeds, n test images.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.metrics.statistics.intervals import bootstrap_interval, hit_rate_interval
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, MODEL
from mindeye_pl.store.manifest import MANIFEST

SEED, HOURS, START = "seed", "data.num_sessions", "finetune.start"

#: Steps whose cost is a cell's own; what comes before them is shared with other cells.
OWN_STEPS = ("finetune", "finetune_generator", "evaluate", "reconstruct", "evaluate_reconstructions")

#: Swept parameters in words: the value put in the place of the braces.
WORDS = {
    HOURS: "{} h",
    "data.subject": "subject {}",
    "data.split": "split {}",
    "pretrain.subjects": "pretrained on {}",
    "scale.hidden_dim": "hidden {}",
    "model": "{}",
    "fidelity": "{}",
    "ablation": "{}",
    "experiment": "{}",
}
VALUES = {
    (START, "pretrained"): "pretrained",
    (START, "scratch"): "scratch",
    ("ablation", "none"): "whole model",
    ("model", "mindeye1"): "MindEye1",
    ("model", "mindeye2"): "MindEye2",
    ("model", "mind_reader"): "Mind Reader",
    ("generator.condition", "image"): "image alone",
    ("generator.condition", "caption"): "caption alone",
    ("generator.condition", "both"): "image and caption",
    ("generator.condition", "signed_maximum"): "signed maximum",
    ("generator.mappers", "frozen"): "mappers frozen",
    ("generator.mappers", "trained"): "mappers trained too",
    ("objective.contrastive", "True"): "with contrastive loss",
    ("objective.contrastive", "False"): "without contrastive loss",
}


def in_words(key: str, value: str) -> str:
    """A swept parameter for people: "1 h", "scratch"."""
    if (key, value) in VALUES:
        return VALUES[key, value]
    plain = value.replace("_", " ") if key in ("ablation", "fidelity") else value
    return WORDS[key].format(plain) if key in WORDS else f"{key}={value}"


@dataclass(frozen=True)
class JobScores:
    """Scores of one job.

    Attributes:
        scores: the model's row, by score name.
        of_each: `(n,)` of each test image, by score name.
    """

    scores: Mapping[str, Score]
    of_each: Mapping[str, np.ndarray]


def read_job_scores(job: Job) -> JobScores:
    """From the artifacts of a finished job; empty where it evaluated nothing."""
    scores: dict[str, Score] = {}
    of_each: dict[str, np.ndarray] = {}
    for step in (EVALUATE, EVALUATE_RECONSTRUCTIONS):
        if step.name in job.artifacts:
            content = json.loads((Path(job.artifacts[step.name]) / SCORES).read_text())
            scores |= {plain["name"]: Score.from_dict(plain) for plain in content["rows"][MODEL]}
            each = content.get("of_each_image", {}).get(MODEL, {})
            of_each |= {name: np.array(values, dtype=np.float64) for name, values in each.items()}
    return JobScores(scores, of_each)


@dataclass(frozen=True)
class Cell:
    """The jobs of one setting.

    Attributes:
        settings: value of each swept parameter but the seed.
        jobs: by seed; one job has the key "" where no seed was swept.
    """

    settings: Mapping[str, str]
    jobs: Mapping[str, Job]

    @property
    def name(self) -> str:
        """In words, what differs between jobs."""
        return ", ".join(in_words(key, value) for key, value in self.settings.items()) or "this sweep"

    @property
    def hours(self) -> float | None:
        """The amount of data, None where it is no number."""
        try:
            return float(self.settings[HOURS])
        except (KeyError, ValueError):
            return None

    @cached_property
    def by_seed(self) -> dict[str, JobScores]:
        """Return the scores of the finished jobs by seed."""
        return {seed: read_job_scores(job) for seed, job in self.jobs.items() if job.status == "finished"}

    def of_each(self, metric: str, seeds: Sequence[str] | None = None) -> np.ndarray | None:
        """Scores of each image for these seeds, `(K, n)`; None where any of them lacks it."""
        chosen = list(self.by_seed) if seeds is None else list(seeds)
        rows = [self.by_seed[seed].of_each.get(metric) for seed in chosen if seed in self.by_seed]
        if len(rows) < len(chosen) or not rows or any(row is None for row in rows):
            return None
        return np.stack(rows)  # type: ignore[arg-type]

    def score(self, metric: str) -> Score | None:
        """Mean over seeds, with its interval over images; None where no job has it."""
        found = [scores.scores[metric] for scores in self.by_seed.values() if metric in scores.scores]
        if not found:
            return None
        value = float(np.mean([score.value for score in found]))
        each = self.of_each(metric)
        if len(found) == 1 or each is None:
            return replace(found[0], value=value, interval=found[0].interval if len(found) == 1 else None)
        return replace(found[0], value=value, interval=_interval(each.mean(0), found[0]))

    def failures(self) -> list[str]:
        """Return one line for each job without a score."""
        lines = []
        for seed, job in self.jobs.items():
            which = f"seed {seed}: " if seed else ""
            if job.status == "failed":
                lines.append(f"{which}failed: {job.error}")
            elif job.status == "skipped":
                lines.append(f"{which}not started: {job.error}")
            elif job.status == "running":
                lines.append(f"{which}was killed; the same command goes on with it")
        return lines

    def seconds(self) -> float:
        """Return the build time of its own steps in seconds, over all seeds."""
        return sum(
            manifest_of(folder)["seconds"]
            for job in self.jobs.values()
            for step, folder in job.artifacts.items()
            if step in OWN_STEPS
        )


def _interval(values: np.ndarray, like: Score) -> tuple[float, float]:
    """Over images, of a mean over seeds."""
    if like.pool_size is not None and values.min() >= 0 and values.max() <= 1:
        return hit_rate_interval(values)
    return bootstrap_interval(values)


def manifest_of(folder: str) -> dict[str, Any]:
    """The manifest of an artifact's folder."""
    return json.loads((Path(folder) / MANIFEST).read_text())


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """The parameters that differ between jobs, in the order of the command line."""
    settings = [job.settings() for job in jobs]
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def cells_of(jobs: Sequence[Job]) -> list[Cell]:
    """The cells in the order of their first jobs."""
    keys = swept_keys(jobs)
    grouped: dict[tuple[str, ...], dict[str, Job]] = {}
    for job in jobs:
        settings = job.settings()
        place = tuple(settings.get(key, "") for key in keys if key != SEED)
        grouped.setdefault(place, {})[settings.get(SEED, "") if SEED in keys else ""] = job
    names = [key for key in keys if key != SEED]
    return [Cell(dict(zip(names, place, strict=True)), by_seed) for place, by_seed in grouped.items()]


def pairs(cells: Sequence[Cell], key: str, baseline: str) -> list[tuple[Cell, Cell]]:
    """Each cell beside the one that differs from it only in having `baseline` as its `key`."""
    by_settings: dict[frozenset[tuple[str, str]], Cell] = {frozenset(cell.settings.items()): cell for cell in cells}
    found = []
    for cell in cells:
        reference = by_settings.get(frozenset((dict(cell.settings) | {key: baseline}).items()))
        if reference is not None and reference is not cell:
            found.append((cell, reference))
    return found


def common_seeds(first: Cell, second: Cell) -> list[str]:
    """The seeds that both have finished."""
    return [seed for seed in first.by_seed if seed in second.by_seed]


def sorted_by(cells: Sequence[Cell], amount: Callable[[Cell], float | None]) -> list[Cell]:
    """The cells that have an amount, ascending."""
    known = [(value, place, cell) for place, cell in enumerate(cells) if (value := amount(cell)) is not None]
    return [cell for _, _, cell in sorted(known, key=lambda item: item[:2])]
