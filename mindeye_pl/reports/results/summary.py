"""Summary of a finished sweep or run: one small JSON file with its scores and what made them."""

import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.decoder import finished_run
from mindeye_pl.engine.run import order
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.reports.render.table import COLUMNS, COST_COLUMNS, IMAGE_COLUMNS, VALIDATION_COLUMNS, Column, Row
from mindeye_pl.reports.sweeps.baselines import baseline_cells
from mindeye_pl.reports.sweeps.findings import compare, compare_with_baselines, compared, sentences
from mindeye_pl.reports.sweeps.jobs import Job, read_jobs
from mindeye_pl.reports.sweeps.settings import SEED, Cell, cells_of, manifest_of, rows_of
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, MODEL
from mindeye_pl.steps.inputs.dataset import is_simulated
from mindeye_pl.steps.registry import STEPS
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.environment import CHANGES
from mindeye_pl.store.own_files import read_json

#: Exceptions that a reader must be told of: code that differs from its commit, and results of several commits.
DIRTY, MIXED = "changes", "mixed"

#: Significant decimals of a stored number.
_DECIMALS = 6


def summarise(folder: Path, *, allow: Collection[str] = ()) -> dict[str, Any]:
    """Return the summary of the sweep or run in `folder`, as plain data.

    Keys: `experiment`, `command`, `revisions`, `changes`, `version`, `simulated`, `seeds`, `columns` by score, `rows`
    and `differences` by name, each with scores by name, and `findings`, the sweep's sentences. A sweep's rows are its
    cells in words, "1 h, pretrained", the linear baselines of their data, "1 h, ridge" and "1 h, ridge, blurry", and
    every row of the evaluations beside a model's, "1 h, pretrained: mean_image"; a run's are `model`, `mean_image` and
    so on. Differences from linear baselines are "1 h, pretrained − ridge".

    Raises:
        UserError: if jobs have not finished, or the results come from changed code or several commits and `allow` does
            not name that (`changes`, `mixed`).
    """
    jobs, command = _jobs(folder)
    if lost := [job for job in jobs if job.status != "finished"]:
        raise UserError(f"{folder} has not finished", got=f"job {lost[0].number}: {lost[0].status}", fix=command)
    manifests = [manifest_of(path) for path in dict.fromkeys(path for job in jobs for path in job.artifacts.values())]
    config = compose_config(jobs[0].overrides)
    cells, sweep = cells_of(jobs), config.sweep
    baselines, columns = baseline_cells(cells), _columns(jobs, cells)
    key, baseline = compared(jobs, cells, sweep.compare, sweep.baseline)
    differences, findings = list[Row](), list[str]()
    if key is not None:
        differences = compare(cells, key, baseline, list(columns.values()), simulated=is_simulated(config))
        scored = [columns[name] for name in [sweep.metric] if name in columns]
        findings = [sentence for column in scored for sentence in sentences(cells, key, baseline, column)]
    differences += compare_with_baselines(cells, baselines, list(columns.values()), simulated=is_simulated(config))
    return {
        "experiment": config_name(jobs[0].overrides),
        "command": command,
        **provenance([manifest["made_with"] for manifest in manifests], folder, allow),
        "simulated": is_simulated(config),
        "seeds": sorted({int(job.settings().get(SEED, config.seed)) for job in jobs}),
        "columns": {name: plain_column(column) for name, column in columns.items()},
        "rows": _rows(cells, baselines, is_sweep=len(jobs) > 1),
        "differences": {row.name: _plain_scores(row.scores) for row in differences},
        "findings": findings,
    }


def _jobs(folder: Path) -> tuple[list[Job], str]:
    """Return the jobs of a sweep, or a run as a single job, and the command that made them."""
    if jobs := read_jobs(folder):
        given = OmegaConf.load(folder / "multirun.yaml").hydra.overrides.task
        return jobs, _command(["-m", *given])
    run, _ = finished_run(folder)
    overrides: list[str] = list(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    config: DictConfig = run.config
    steps = [STEPS[name] for name in config.pipeline.steps if name in STEPS]
    found = ((step.name, run.find(step)) for step in order(config, steps))
    artifacts = {name: str(artifact.folder) for name, artifact in found if artifact is not None}
    return [Job(0, overrides, "finished", artifacts=artifacts)], _command(overrides)


def _command(overrides: Sequence[str]) -> str:
    """Return the command without the folders and loggers of a machine."""
    kept = [item for item in overrides if not item.startswith(("paths.", "logger"))]
    return shlex.join(["python", "-m", "mindeye_pl", *kept])


def config_name(overrides: Sequence[str]) -> str:
    """Return the name of the experiment, `adhoc` if there is none."""
    given = [item.partition("=")[2] for item in overrides if item.lstrip("+").startswith("experiment=")]
    return given[-1] if given else "adhoc"


def provenance(made_with: Iterable[dict[str, str]], folder: Path, allow: Collection[str]) -> dict[str, Any]:
    """Return `revisions`, `changes` and `version` of some artifacts; errors as of `summarise`."""
    versions = [(made["commit"], made["mindeye_pl"]) for made in made_with]
    revisions = sorted({commit.removesuffix(CHANGES) for commit, _ in versions})
    changes = any(commit.endswith(CHANGES) for commit, _ in versions)
    if changes and DIRTY not in allow:
        fix = f"commit, and run it again from an empty paths.outputs; or --allow {DIRTY}"
        raise UserError(f"{folder} was made by code that differs from its commit", got=", ".join(revisions), fix=fix)
    if len(revisions) > 1 and MIXED not in allow:
        fix = f"run it again from an empty paths.outputs; or --allow {MIXED}"
        raise UserError(f"{folder} was made by several commits", got=", ".join(revisions), expected="one", fix=fix)
    return {"revisions": revisions, "changes": changes, "version": ", ".join(sorted({own for _, own in versions}))}


def _rows(cells: Sequence[Cell], baselines: Sequence[Cell], *, is_sweep: bool) -> dict[str, dict[str, Any]]:
    """Return the rows of all cells: their models first, then linear baselines, then what stands beside each model."""
    titled = [(cell.name if is_sweep else MODEL, cell) for cell in cells]
    titled += [(baseline.name, baseline) for baseline in baselines]
    for name in dict.fromkeys(name for cell in cells for name in _names(cell) if name != MODEL):
        titled += [(f"{cell.name}: {name}" if is_sweep else name, replace(cell, rows=rows_of(name))) for cell in cells]
    rows: dict[str, dict[str, Any]] = {}
    for title, cell in titled:
        scores = dict.fromkeys(score for job in cell.by_seed.values() for score in job.scores)
        if scores and title not in rows:
            rows[title] = _plain_scores(score for one in scores if (score := cell.score(one)) is not None)
    return rows


def _names(cell: Cell) -> list[str]:
    """Return the rows of a cell's evaluations."""
    return list(
        dict.fromkeys(name for job in cell.jobs.values() for content in _contents(job) for name in content["rows"])
    )


def _contents(job: Job) -> list[dict[str, Any]]:
    paths = [job.artifacts[step.name] for step in (EVALUATE, EVALUATE_RECONSTRUCTIONS) if step.name in job.artifacts]
    return [read_json(Path(path) / SCORES) for path in paths]


def _columns(jobs: Sequence[Job], cells: Sequence[Cell]) -> dict[str, Column]:
    """Return the column of every score: the project's, that of the evaluation's metric, or one by the score's name."""
    known = {column.score: column for column in (*COLUMNS, *IMAGE_COLUMNS, *VALIDATION_COLUMNS, *COST_COLUMNS)}
    metrics = [metric for job in jobs for content in _contents(job) for metric in content.get("metrics", ())]
    for metric in metrics:
        better = metric["higher_is_better"]
        form = _form(metric["form"] == "percent")
        known.setdefault(metric["name"], Column(metric["title"], metric["name"], "", form, better))
    scores = [score for cell in cells for job in cell.by_seed.values() for score in job.scores.values()]
    for score in scores:
        form = _form(score.pool_size is not None and score.chance is not None)
        known.setdefault(score.name, Column(score.name, score.name, "", form, score.higher_is_better))
    return {name: known[name] for name in dict.fromkeys(score.name for score in scores)}


def _form(is_percent: bool) -> Literal["percent", "number"]:
    return "percent" if is_percent else "number"


def plain_column(column: Column) -> dict[str, Any]:
    """Return a column as plain data."""
    return {"title": column.title, "form": column.form, "higher_is_better": column.higher_is_better}


def _plain_scores(scores: Iterable[Score]) -> dict[str, dict[str, Any]]:
    """Return scores by name with the entries that they have."""
    return {score.name: {key: value for key, value in _plain(score).items() if value is not None} for score in scores}


def _plain(score: Score) -> dict[str, Any]:
    return {
        "value": round(score.value, _DECIMALS),
        "interval": score.interval and [round(end, _DECIMALS) for end in score.interval],
        "chance": score.chance and round(score.chance, _DECIMALS),
        "pool_size": score.pool_size,
        "num_images": score.num_images,
    }


def write_summary(path: Path | None, summary: Mapping[str, Any]) -> None:
    """Write a summary as json, atomically; without a path nothing is written."""
    if path is not None:
        write_text(path, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
