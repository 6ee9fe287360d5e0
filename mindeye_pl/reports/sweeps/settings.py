"""A sweep's jobs as cells of a table: those that differ only in the seed are one cell.

Legend: K seeds, n test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from mindeye_pl.metrics.statistics.intervals import interval_over_images
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.metrics.statistics.seeds import MIN_SEEDS, interval_over_seeds
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.steps.brain.finetune import FINETUNE, TRAINED_PARAMETERS
from mindeye_pl.steps.brain.validation import read_kept_scores
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, MODEL
from mindeye_pl.store.manifest import read_manifest
from mindeye_pl.store.own_files import read_json

SEED, HOURS, START, ABLATION = "seed", "data.num_sessions", "finetune.start", "ablation"
DIMENSIONS = "bottleneck.dimensions"

#: Steps that prepare a pretrained model for any new subject; cells share them.
PREPARING_STEPS = ("voxel_clusters", "train_episodes")

#: Steps that fit a prepared model to one subject; most ways have some of them.
FITTING_STEPS = ("closed_form_alignment", "place_voxels", "synthetic_trials", FINETUNE.name, "fit_linear_blur")

#: Steps whose cost is a cell's own.
OWN_STEPS = (*FITTING_STEPS, "finetune_generator", "evaluate", "reconstruct", "evaluate_reconstructions")

#: Swept parameters in words, with braces for the value.
WORDS = {
    HOURS: "{} h",
    START: "{}",
    "data.subject": "subject {}",
    "finetune.max_steps": "{} steps",
    DIMENSIONS: "{} dimensions",
    "data.split": "split {}",
    "pretrain.subjects": "pretrained on {}",
    "scale.hidden_dim": "hidden {}",
    "model": "{}",
    "adaptation": "{}",
    "fidelity": "{}",
    ABLATION: "{}",
    "experiment": "{}",
}
VALUES = {
    (ABLATION, "none"): "whole model",
    (DIMENSIONS, "1"): "1 dimension",
    (DIMENSIONS, "null"): "all dimensions",
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
    """Return a swept parameter for people: "1 h", "scratch"."""
    if (key, value) in VALUES:
        return VALUES[key, value]
    plain = value.replace("_", " ") if key in (ABLATION, "fidelity") else value
    return WORDS[key].format(plain) if key in WORDS else f"{key}={value}"


def rows_of(name: str) -> dict[str, str]:
    """Return the row of this name of every evaluation, by step."""
    return {EVALUATE.name: name, EVALUATE_RECONSTRUCTIONS.name: name}


#: Rows of the evaluations that hold the model's own scores, by step.
MODEL_ROWS = rows_of(MODEL)


@dataclass(frozen=True)
class JobScores:
    """Scores of one row of a job's evaluations, and of each test image, `(n,)`, by score name."""

    scores: Mapping[str, Score]
    of_each: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, job: Job, rows: Mapping[str, str]) -> Self:
        """Read the artifacts of a finished job; empty if it trained and evaluated nothing.

        `rows` are names of rows by step: those of the model, of a null row, of a baseline or of a ceiling.
        """
        scores: dict[str, Score] = {}
        of_each: dict[str, np.ndarray] = {}
        if rows == MODEL_ROWS and FINETUNE.name in job.artifacts:
            scores |= {score.name: score for score in read_kept_scores(Path(job.artifacts[FINETUNE.name]))}
            scores |= {score.name: score for score in _cost(job)}
        for step, row in rows.items():
            if step in job.artifacts:
                content = read_json(Path(job.artifacts[step]) / SCORES)
                scores |= {plain["name"]: Score.from_dict(plain) for plain in content["rows"].get(row, ())}
                each = content.get("of_each_image", {}).get(row, {})
                of_each |= {name: np.array(values, dtype=np.float64) for name, values in each.items()}
        return cls(scores, of_each)


def _cost(job: Job) -> list[Score]:
    """Return the weights that learned in the fine-tuning, and the minutes of all steps after the pretraining."""
    counts = read_json(Path(job.artifacts[FINETUNE.name]) / TRAINED_PARAMETERS, dict[str, int])
    folders = [job.artifacts[step] for step in (*PREPARING_STEPS, *FITTING_STEPS) if step in job.artifacts]
    minutes = sum(manifest_of(folder)["seconds"] for folder in folders) / 60
    values = {"trained_parameters": float(sum(counts.values())), "minutes": minutes}
    return [
        Score(name, value, chance=None, pool_size=None, num_images=0, higher_is_better=False)
        for name, value in values.items()
    ]


@dataclass(frozen=True)
class Cell:
    """The jobs of one setting.

    Attributes:
        settings: value of each swept parameter except the seed.
        jobs: by seed; a single job has the key "" if no seed was swept.
        baseline: name of a baseline of these jobs; empty for their model.
        rows: rows of the evaluations that are scored, by step.
    """

    settings: Mapping[str, str]
    jobs: Mapping[str, Job]
    baseline: str = ""
    rows: Mapping[str, str] = field(default_factory=lambda: MODEL_ROWS)

    @property
    def name(self) -> str:
        """The swept parameters in words."""
        return self.name_of(self.settings)

    def name_without(self, key: str) -> str:
        """Return the swept parameters except one in words."""
        return self.name_of({name: value for name, value in self.settings.items() if name != key})

    def name_of(self, settings: Mapping[str, str]) -> str:
        """Return some of its settings in words, with the baseline's name."""
        words = [*(in_words(key, value) for key, value in settings.items()), self.baseline]
        return ", ".join(filter(None, words)) or "model"

    @property
    def ablation(self) -> Mapping[str, str | None]:
        """The node of the ablation that its jobs share; empty where no job has finished."""
        return next((job.ablation for job in self.jobs.values() if job.ablation), {})

    @property
    def hours(self) -> float | None:
        """The amount of data, None if it is not a number."""
        try:
            return float(self.settings[HOURS])
        except (KeyError, ValueError):
            return None

    @property
    def without_hours(self) -> dict[str, str]:
        """The settings except the amount of data."""
        return {key: value for key, value in self.settings.items() if key != HOURS}

    @cached_property
    def by_seed(self) -> dict[str, JobScores]:
        """Return the scores of the finished jobs by seed, ascending: sums do not depend on the order of jobs."""
        finished = {seed: job for seed, job in sorted(self.jobs.items()) if job.status == "finished"}
        return {seed: JobScores.read(job, self.rows) for seed, job in finished.items()}

    def of_each(self, metric: str, seeds: Sequence[str] | None = None) -> np.ndarray | None:
        """Return the scores of each image for these seeds, `(K, n)`; None if any of them lacks it."""
        chosen = list(self.by_seed) if seeds is None else seeds
        rows = [self.by_seed[seed].of_each[metric] for seed in chosen if self._has_each(seed, metric)]
        return np.stack(rows) if rows and len(rows) == len(chosen) else None

    def _has_each(self, seed: str, metric: str) -> bool:
        return seed in self.by_seed and metric in self.by_seed[seed].of_each

    def score(self, metric: str) -> Score | None:
        """Return the mean over seeds, None if no job has it.

        The interval is over images and seeds, with fewer than `MIN_SEEDS` seeds over images alone.
        """
        found = [scores.scores[metric] for scores in self.by_seed.values() if metric in scores.scores]
        if len(found) <= 1:
            return found[0] if found else None
        value, each = float(np.mean([score.value for score in found])), self.of_each(metric)
        if each is None:
            return replace(found[0], value=value, interval=None)
        hits = found[0].is_hit_rate
        over_seeds = len(each) >= MIN_SEEDS
        interval = interval_over_seeds(each, hits=hits) if over_seeds else interval_over_images(each.mean(0), hits=hits)
        return replace(found[0], value=value, interval=interval)

    def failures(self) -> list[str]:
        """Return one line for each job without a score."""
        lines = {
            "failed": "failed: {}",
            "skipped": "not started: {}",
            "running": "was killed; the same command resumes it",
        }
        return [
            (f"seed {seed}: " if seed else "") + lines[job.status].format(job.error)
            for seed, job in self.jobs.items()
            if job.status in lines
        ]

    def seconds(self) -> float:
        """Return the build time of its own steps in seconds, over all seeds."""
        return sum(
            manifest_of(folder)["seconds"]
            for job in self.jobs.values()
            for step, folder in job.artifacts.items()
            if step in OWN_STEPS
        )


def manifest_of(folder: str) -> dict[str, Any]:
    """Return the manifest of an artifact's folder."""
    return read_manifest(Path(folder))


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Return the parameters that differ between jobs, in the order of the command line."""
    settings = [job.settings() for job in jobs]
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def cells_of(jobs: Sequence[Job]) -> list[Cell]:
    """Return the cells in the order of their first jobs."""
    keys = swept_keys(jobs)
    names = [key for key in keys if key != SEED]
    grouped: dict[tuple[str, ...], dict[str, Job]] = {}
    for job in jobs:
        settings = job.settings()
        values = tuple(settings.get(name, "") for name in names)
        grouped.setdefault(values, {})[settings.get(SEED, "") if SEED in keys else ""] = job
    return [Cell(dict(zip(names, values, strict=True)), by_seed) for values, by_seed in grouped.items()]


def pairs(cells: Sequence[Cell], key: str, baseline: str) -> list[tuple[Cell, Cell]]:
    """Return each cell with the one that differs from it only in having `baseline` as its `key`.

    An ablation that names another one as its control is paired with that, where it was swept too.
    """
    by_settings = {frozenset(cell.settings.items()): cell for cell in cells}

    def with_value(cell: Cell, value: str) -> Cell | None:
        return by_settings.get(frozenset((dict(cell.settings) | {key: value}).items()))

    controls = [cell.ablation.get("against") if key == ABLATION else None for cell in cells]
    references = [
        (with_value(cell, control) if control else None) or with_value(cell, baseline)
        for cell, control in zip(cells, controls, strict=True)
    ]
    return [(cell, one) for cell, one in zip(cells, references, strict=True) if one is not None and one is not cell]


def common_seeds(first: Cell, second: Cell) -> list[str]:
    """Return the seeds that both have finished."""
    return [seed for seed in first.by_seed if seed in second.by_seed]


def by_hours(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells whose amount of data is a number, ascending."""
    return sorted((cell for cell in cells if cell.hours is not None), key=lambda cell: cell.hours or 0.0)
