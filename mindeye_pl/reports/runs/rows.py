"""The tables of a report: null rows first, then baselines, published rows and experiments, ceilings last."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.scores import CEILING as CAPTION_CEILING
from mindeye_pl.metrics.captions.scores import PREDICTED_IMAGE, PREDICTED_REFERENCE
from mindeye_pl.metrics.images import TableMetric
from mindeye_pl.metrics.retrieval import published_label
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.comparison import beyond_doubt
from mindeye_pl.reports.render.published import published_rows
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.table import COLUMNS, Column, Kind, Row
from mindeye_pl.steps.evaluation import caption_scores as caption_evaluation
from mindeye_pl.steps.evaluation import image_sets as image_sets
from mindeye_pl.steps.evaluation.brain_scores import TRUE_IMAGE
from mindeye_pl.steps.evaluation.caption_scores import caption_columns
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS, read_image_scores
from mindeye_pl.steps.evaluation.retrieval import CAPTIONS, CEILING, EVALUATE, MODEL, RIDGE, SHUFFLED, read_scores
from mindeye_pl.steps.inputs.simulate import is_simulated
from mindeye_pl.store.artifacts import Artifact

#: Name, kind and a few words for each line of the reconstructions' table, in its order.
LINES: dict[str, tuple[str, Kind, str]] = {
    image_sets.GREY: ("grey image", "null", ""),
    image_sets.MEAN_IMAGE: ("mean image", "null", "of the training images"),
    image_sets.OTHER_IMAGE: ("another image", "null", "of the test set"),
    image_sets.SHUFFLED: ("shuffled brains", "null", ""),
    image_sets.NEAREST: (
        "nearest image",
        "baseline",
        "of the training ones, by predicted tokens; nothing is drawn",
    ),
    image_sets.BLURRY: ("blurry alone", "baseline", "of the low-level branch"),
    image_sets.REFINED: ("refined", "model", ""),
    image_sets.TRUE_TOKENS: ("true tokens", "ceiling", "drawn from the image's own tokens"),
    image_sets.VAE: ("through the VAE", "ceiling", "the image encoded and decoded"),
    TRUE_IMAGE: ("the image itself", "ceiling", "through the encoder"),
}

#: Columns of the terminal, which has room for no more; the page has all.
TERMINAL = ("pixcorr", "ssim", "clip_two_way")

RECONSTRUCTIONS = "Reconstructions"


def retrieval_results(run: Run) -> Results:
    """Retrieval in both directions, in pools and in the full set."""
    simulated, columns = is_simulated(run), retrieval_columns(run)
    own = found(run, EVALUATE)
    model = read_scores(own, MODEL)
    hours = hours_in_words(run)
    rows = [
        Row("chance", tuple(map(_chance, model)), simulated=simulated, kind="null"),
        Row("shuffled brains", read_scores(own, SHUFFLED), simulated=simulated, kind="null"),
        Row(f"ridge, {hours}", read_scores(own, RIDGE), simulated=simulated, kind="baseline"),
        *_published(run, columns),
        *_experiments(run, own, EVALUATE, model),
    ]
    if of_captions := read_scores(own, CAPTIONS):
        note = "brains against captions, instead of images"
        rows.append(Row(f"caption embedding, {hours}", of_captions, simulated=simulated, note=note))
    if ceiling := read_scores(own, CEILING):
        note = "ridge from all sessions without noise"
        rows.append(Row("noise-free ceiling", ceiling, simulated=simulated, note=note, kind="ceiling"))
    return Results("Retrieval", rows, columns)


def retrieval_columns(run: Run) -> list[Column]:
    """The two directions in pools first, then in the full set and for more places."""
    scores = {score.name: score for score in read_scores(found(run, EVALUATE), MODEL)}
    columns = [_labelled(column, run.config.metrics.names) for column in COLUMNS]
    pool, full = scores[COLUMNS[0].score].pool_size, scores[f"{COLUMNS[0].score}_full"].pool_size
    columns = [replace(column, group=f"Among {pool}") for column in columns]
    more = [suffix for k in run.config.metrics.top_k if k != 1 for suffix in (f"_full_top{k}",)]
    for suffix in (*(["_full"] if full != pool else []), *more):
        place = f", top {suffix.rpartition('_top')[2]}" if "_top" in suffix else ""
        columns += [
            Column(f"{column.title}{place}", f"{column.score}{suffix}", column.question, group=f"Among all {full}")
            for column in COLUMNS
        ]
    return columns


def _labelled(column: Column, names: str) -> Column:
    """The column with the name that the published script (or the paper) gives its direction."""
    source = "the published script prints it" if names == "published" else "the paper means it"
    question = f'{column.question} "{published_label(column.score, names)}", as {source}.'
    return replace(column, question=question)


def image_results(run: Run) -> list[Results]:
    """The reconstructions by every metric of the protocol, and one table for each encoder of brain correlation."""
    content = read_image_scores(found(run, EVALUATE_RECONSTRUCTIONS))
    metrics = [TableMetric(**plain) for plain in content["metrics"]]
    tables = []
    for title in dict.fromkeys(metric.group for metric in metrics):
        columns = [_column(metric) for metric in metrics if metric.group == title]
        needs = [f"{c.title} {content['needs'][c.score]}" for c in columns if c.score in content["needs"]]
        columns = [column for column in columns if column.score not in content["needs"]]
        note = f"Protocol {content['protocol']}. {beside_null(content)}" if title == RECONSTRUCTIONS else ""
        rows = image_rows(run, content, columns)
        tables.append(Results(title, rows if columns else [], columns, note, needs=needs))
    return [table for table in tables if table.rows or table.needs]


def _column(metric: TableMetric) -> Column:
    limits = None if metric.name == "fid" else (0.0, 1.0)
    form: Literal["share", "number"] = "share" if metric.form == "share" else "number"
    return Column(metric.title, metric.name, metric.question, form, metric.higher_is_better, limits=limits)


def image_rows(run: Run, content: dict[str, Any], columns: Sequence[Column]) -> list[Row]:
    """The lines of the reconstructions' table that have a score in one of the columns."""
    simulated, own = is_simulated(run), found(run, EVALUATE_RECONSTRUCTIONS)
    model = _of_each(content, MODEL)
    rows = {}
    for line, (name, kind, note) in LINES.items():
        scores = tuple(Score.from_dict(plain) for plain in content["rows"].get(line, ()))
        if any(score.name in {column.score for column in columns} for score in scores):
            differs = beyond_doubt(_of_each(content, line), model, columns)
            rows[line] = Row(name, scores, note=note, simulated=simulated, kind=kind, differs=differs)
    before = [row for row in rows.values() if row.kind in ("null", "baseline")]
    after = [row for row in rows.values() if row.kind not in ("null", "baseline")]
    own_scores = tuple(Score.from_dict(plain) for plain in content["rows"][MODEL])
    return [*before, *_published(run, columns), *_experiments(run, own, EVALUATE_RECONSTRUCTIONS, own_scores), *after]


def _of_each(content: dict[str, Any], line: str) -> dict[str, np.ndarray]:
    return {name: np.array(each) for name, each in content["of_each_image"].get(line, {}).items()}


def caption_results(run: Run) -> Results | None:
    """The captions in the three published comparisons; None where there are none."""
    content, simulated = read_image_scores(found(run, EVALUATE_RECONSTRUCTIONS)), is_simulated(run)
    if not content["captions"] and not any(c.name in content["needs"] for c in caption_columns(run)):
        return None
    lines: dict[str, tuple[str, Kind]] = {
        caption_evaluation.SHUFFLED: ("another image's, reference", "null"),
        PREDICTED_REFERENCE: ("brain, reference", "model"),
        PREDICTED_IMAGE: ("brain, true image's", "model"),
        CAPTION_CEILING: ("true image's, reference", "ceiling"),
    }
    columns = [_column(metric) for metric in caption_columns(run)]
    needs = [f"{c.title} {content['needs'][c.score]}" for c in columns if c.score in content["needs"]]
    columns = [column for column in columns if column.score not in content["needs"]]
    rows = [
        Row(name, tuple(map(Score.from_dict, content["captions"][line])), simulated=simulated, kind=kind)
        for line, (name, kind) in lines.items()
        if line in content["captions"]
    ]
    if rows:
        place = next(place for place, row in enumerate(rows) if row.kind != "null")
        rows[place:place] = _published(run, columns)
    note = "Each row compares two captions of an image: from the brain, from its true tokens, or the reference."
    return Results("Captions", rows, columns, note, needs=needs)


def beside_null(content: dict[str, Any]) -> str:
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


def hours_in_words(run: Run) -> str:
    """How much of the subject's data is in use."""
    sessions = run.config.data.num_sessions
    return "all h" if sessions == "all" else f"{sessions} h"


def found(run: Run, step: Step) -> Artifact:
    """The finished artifact that a report shows."""
    artifact = run.find(step)
    assert artifact is not None, f"report comes after {step.name}"
    return artifact


def _published(run: Run, columns: Sequence[Column]) -> list[Row]:
    """The papers' rows; they are of real brains, and stand beside those alone."""
    if is_simulated(run) or not run.config.report.published:
        return []
    sessions = run.config.data.num_sessions
    return published_rows(run.config.data.subject, sessions, columns)


def _experiments(run: Run, own: Artifact, step: Step, scores: tuple[Score, ...]) -> list[Row]:
    names = list(run.config.report.compare)
    given = run.config.evaluate.reconstructions
    if given is not None:
        return [Row(str(given), scores, simulated=is_simulated(run), this_run=True)]
    rows = [_experiment_row(run, name, own, step) for name in names]
    if not any(row.this_run for row in rows):
        asked = any(item.startswith("data.num_sessions=") for item in run.overrides)
        label = f"{run.experiment}, {hours_in_words(run)}" if asked else run.experiment
        rows.insert(0, Row(label, scores, simulated=is_simulated(run), this_run=True))
    return rows


def _experiment_row(run: Run, name: str, own: Artifact, step: Step) -> Row:
    """The row of an experiment, under this run's other overrides; empty where it was not run."""
    other = run.of_experiment(name)
    try:
        artifact = other.find(step)
    except UserError as error:  # of data that this experiment lacks and this run has not asked for
        return Row(name, status="cannot run", note=str(error))
    start = "pretrained" if other.config.finetune.start == "pretrained" else "scratch"
    label = f"{start}, {hours_in_words(other)}"
    if artifact is None:
        return Row(label, command=f"python -m mindeye_pl {shlex.join(other.overrides)}", simulated=is_simulated(run))
    mine = artifact.fingerprint == own.fingerprint
    return Row(label, read_scores(artifact, MODEL), simulated=is_simulated(run), this_run=mine)


def _chance(score: Score) -> Score:
    assert score.chance is not None, score.name
    return Score(score.name, score.chance, score.chance, score.pool_size, score.num_images)
