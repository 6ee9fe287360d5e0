"""The tables of a report: null rows first, then baselines, published rows and experiments, ceilings last."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.scores import CEILING as CAPTION_CEILING
from mindeye_pl.metrics.captions.scores import PREDICTED_IMAGE, PREDICTED_REFERENCE
from mindeye_pl.metrics.images import TableMetric
from mindeye_pl.metrics.retrieval import published_label
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.comparison import find_significant_differences
from mindeye_pl.reports.render.published import published_rows
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.table import COLUMNS, Column, Kind, Row
from mindeye_pl.steps.evaluation.caption_scores import SHUFFLED as CAPTION_SHUFFLED
from mindeye_pl.steps.evaluation.lines import LINES
from mindeye_pl.steps.evaluation.retrieval import CAPTIONS, CEILING, MODEL, RIDGE, SHUFFLED, read_scores
from mindeye_pl.steps.inputs.dataset import NSD_SOURCES, is_simulated
from mindeye_pl.store.artifacts import Artifact

#: Columns of the terminal, which has room for no more; the page has all.
TERMINAL = ("pixcorr", "ssim", "clip_two_way")

RECONSTRUCTIONS = "Reconstructions"


@dataclass(frozen=True)
class About:
    """Settings that all tables of a run depend on.

    Attributes:
        subject: whose test set it is.
        num_sessions: of its data.
        simulated: whether the numbers are labelled simulated.
        published: whether the papers' rows are shown; they are of real brains, and stand beside those alone.
        names: whose names the directions of retrieval have, `published` or the paper's.
        top_k: how many of the most similar count as found.
    """

    subject: int
    num_sessions: float | Literal["all"]
    simulated: bool
    published: bool
    names: str
    top_k: tuple[int, ...]

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """Return what a configuration says."""
        simulated = is_simulated(config)
        return cls(
            config.data.subject,
            config.data.num_sessions,
            simulated,
            config.data.source in NSD_SOURCES and not simulated and config.report.published,
            config.metrics.names,
            tuple(config.metrics.top_k),
        )

    @property
    def hours(self) -> str:
        """Amount of data, for people."""
        return hours_in_words(self.num_sessions)

    def published_rows(self, columns: Sequence[Column]) -> list[Row]:
        """Return the papers' rows."""
        return published_rows(self.subject, self.num_sessions, columns) if self.published else []


def retrieval_results(evaluation: Artifact, about: About, experiments: Sequence[Row]) -> Results:
    """Return retrieval in both directions, in pools and in the full set.

    Args:
        evaluation: finished.
        about: the run.
        experiments: rows of this run and of those beside it.
    """
    model = read_scores(evaluation, MODEL)
    columns, simulated = retrieval_columns(model, about), about.simulated
    rows = [
        Row("chance", tuple(map(_chance, model)), simulated=simulated, kind="null"),
        Row("shuffled brains", read_scores(evaluation, SHUFFLED), simulated=simulated, kind="null"),
        Row(f"ridge, {about.hours}", read_scores(evaluation, RIDGE), simulated=simulated, kind="baseline"),
        *about.published_rows(columns),
        *experiments,
    ]
    if of_captions := read_scores(evaluation, CAPTIONS):
        note = "brains against captions, in place of images"
        rows.append(Row(f"caption embedding, {about.hours}", of_captions, simulated=simulated, note=note))
    if ceiling := read_scores(evaluation, CEILING):
        note = "ridge from all sessions without noise"
        rows.append(Row("noise-free ceiling", ceiling, simulated=simulated, note=note, kind="ceiling"))
    return Results("Retrieval", rows, columns)


def retrieval_columns(model: Sequence[Score], about: About) -> list[Column]:
    """Return the two directions in pools first, then in the full set and for more ranks."""
    scores = {score.name: score for score in model}
    columns = [_labelled(column, about.names) for column in COLUMNS]
    pool, full = scores[COLUMNS[0].score].pool_size, scores[f"{COLUMNS[0].score}_full"].pool_size
    columns = [replace(column, group=f"Among {pool}") for column in columns]
    more = [f"_full_top{k}" for k in about.top_k if k != 1]
    for suffix in (*(["_full"] if full != pool else []), *more):
        rank = f", top {suffix.rpartition('_top')[2]}" if "_top" in suffix else ""
        columns += [
            Column(f"{column.title}{rank}", f"{column.score}{suffix}", column.question, group=f"Among all {full}")
            for column in COLUMNS
        ]
    return columns


def _labelled(column: Column, names: str) -> Column:
    """The column with the name that the published script (or the paper) gives its direction."""
    source = "the published script prints it" if names == "published" else "the paper means it"
    question = f'{column.question} "{published_label(column.score, names)}", as {source}.'
    return replace(column, question=question)


def image_results(content: Mapping[str, Any], about: About, experiments: Sequence[Row]) -> list[Results]:
    """Return the reconstructions by every metric of the protocol, and one table for each encoder.

    Args:
        content: of the evaluation of reconstructions.
        about: the run.
        experiments: rows of this run and of those beside it.
    """
    metrics = [TableMetric(**plain) for plain in content["metrics"]]
    tables = []
    for title in dict.fromkeys(metric.group for metric in metrics):
        columns = [_column(metric) for metric in metrics if metric.group == title]
        needs = [f"{c.title} {content['needs'][c.score]}" for c in columns if c.score in content["needs"]]
        columns = [column for column in columns if column.score not in content["needs"]]
        note = f"Protocol {content['protocol']}. {beside_null(content)}" if title == RECONSTRUCTIONS else ""
        rows = image_rows(content, about, experiments, columns)
        tables.append(Results(title, rows if columns else [], columns, note, needs=needs))
    return [table for table in tables if table.rows or table.needs]


def _column(metric: TableMetric) -> Column:
    limits = (0.0, 1.0) if metric.bounded else None
    form: Literal["percent", "number"] = "percent" if metric.form == "percent" else "number"
    return Column(metric.title, metric.name, metric.question, form, metric.higher_is_better, limits=limits)


def image_rows(
    content: Mapping[str, Any], about: About, experiments: Sequence[Row], columns: Sequence[Column]
) -> list[Row]:
    """Return the lines of the reconstructions' table that have a score in one of the columns."""
    model, rows = _of_each(content, MODEL), {}
    for line, (name, kind, note) in LINES.items():
        scores = tuple(Score.from_dict(plain) for plain in content["rows"].get(line, ()))
        if any(score.name in {column.score for column in columns} for score in scores):
            differs = find_significant_differences(_of_each(content, line), model, columns)
            rows[line] = Row(name, scores, note=note, simulated=about.simulated, kind=kind, differs=differs)
    before = [row for row in rows.values() if row.kind in ("null", "baseline")]
    after = [row for row in rows.values() if row.kind not in ("null", "baseline")]
    return [*before, *about.published_rows(columns), *experiments, *after]


def _of_each(content: Mapping[str, Any], line: str) -> dict[str, np.ndarray]:
    return {name: np.array(each) for name, each in content["of_each_image"].get(line, {}).items()}


def caption_results(content: Mapping[str, Any], about: About, metrics: Sequence[TableMetric]) -> Results | None:
    """Return the captions in the three published comparisons; None where there are none.

    Args:
        content: of the evaluation of reconstructions.
        about: the run.
        metrics: of captions.
    """
    simulated = about.simulated
    if not content["captions"] and not any(metric.name in content["needs"] for metric in metrics):
        return None
    lines: dict[str, tuple[str, Kind]] = {
        CAPTION_SHUFFLED: ("another image's, reference", "null"),
        PREDICTED_REFERENCE: ("brain, reference", "model"),
        PREDICTED_IMAGE: ("brain, true image's", "model"),
        CAPTION_CEILING: ("true image's, reference", "ceiling"),
    }
    columns = [_column(metric) for metric in metrics]
    needs = [f"{c.title} {content['needs'][c.score]}" for c in columns if c.score in content["needs"]]
    columns = [column for column in columns if column.score not in content["needs"]]
    rows = [
        Row(name, tuple(map(Score.from_dict, content["captions"][line])), simulated=simulated, kind=kind)
        for line, (name, kind) in lines.items()
        if line in content["captions"]
    ]
    if rows:
        place = next(place for place, row in enumerate(rows) if row.kind != "null")
        rows[place:place] = about.published_rows(columns)
    note = "Each row compares two captions of an image: from the brain, from its true tokens, or the reference."
    return Results("Captions", rows, columns, note, needs=needs)


def beside_null(content: Mapping[str, Any]) -> str:
    """One sentence: which scores of the reconstructions are better than which null rows, beyond doubt."""
    titles = {metric["name"]: metric["title"] for metric in content["metrics"]}
    asked = [metric["name"] for metric in content["metrics"] if metric["group"] == RECONSTRUCTIONS]
    not_above = [
        f"{titles[metric]} better than {LINES[null][0]}"
        for null, scores in content["above_null"].items()
        for metric, (_, low, _) in scores.items()
        if low <= 0 and metric in asked
    ]
    if not not_above:
        return "Every score is better than every null row, with 95 % intervals over the same images."
    return f"With 95 % intervals over the same images, not shown: {'; '.join(not_above)}."


def hours_in_words(num_sessions: int | float | str) -> str:
    """Return how much of a subject's data is in use."""
    return "all h" if num_sessions == "all" else f"{num_sessions} h"


def experiment_rows(run: Run, own: Artifact, step: Step, scores: tuple[Score, ...]) -> list[Row]:
    """Return the row of this run, and of the experiments that stand beside it.

    Args:
        run: finished.
        own: its artifact.
        step: that made it.
        scores: of its model.
    """
    names, given = list(run.config.report.compare), run.config.evaluate.reconstructions
    simulated = is_simulated(run.config)
    if given is not None:
        return [Row(str(given), scores, simulated=simulated, this_run=True)]
    rows = [_experiment_row(run.of_experiment(name), name, own, step) for name in names]
    if not any(row.this_run for row in rows):
        asked = any(item.startswith("data.num_sessions=") for item in run.overrides)
        hours = hours_in_words(run.config.data.num_sessions)
        label = f"{run.experiment}, {hours}" if asked else run.experiment
        rows.insert(0, Row(label, scores, simulated=simulated, this_run=True))
    return rows


def _experiment_row(other: Run, name: str, own: Artifact, step: Step) -> Row:
    """Return the row of an experiment, under this run's other overrides; empty where it was not run."""
    try:
        artifact = other.find(step)
    except UserError as error:  # of data that this experiment lacks and this run has not asked for
        return Row(name, status="cannot run", note=str(error))
    start = "pretrained" if other.config.finetune.start == "pretrained" else "scratch"
    label, simulated = f"{start}, {hours_in_words(other.config.data.num_sessions)}", is_simulated(other.config)
    if artifact is None:
        return Row(label, command=f"python -m mindeye_pl {shlex.join(other.overrides)}", simulated=simulated)
    mine = artifact.fingerprint == own.fingerprint
    return Row(label, read_scores(artifact, MODEL), simulated=simulated, this_run=mine)


def _chance(score: Score) -> Score:
    assert score.chance is not None, score.name
    return Score(score.name, score.chance, score.chance, score.pool_size, score.num_images)
