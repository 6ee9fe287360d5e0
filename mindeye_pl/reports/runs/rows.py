"""The tables of a report; each table orders its rows by kind.

Legend: N images.
"""

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
from mindeye_pl.metrics.human_agreement import SOURCE
from mindeye_pl.metrics.images import TableMetric
from mindeye_pl.metrics.retrieval import published_label
from mindeye_pl.metrics.statistics.differences import difference_over_images
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.published import DIRECTIONS, published_rows
from mindeye_pl.reports.render.table import BY_DIRECTION, COLUMNS, Column, Difference, Kind, Results, Row
from mindeye_pl.steps.evaluation.caption_scores import NOTE as CAPTION_NOTE
from mindeye_pl.steps.evaluation.caption_scores import SHUFFLED as CAPTION_SHUFFLED
from mindeye_pl.steps.evaluation.reconstructions import LINES
from mindeye_pl.steps.evaluation.retrieval import CAPTIONS, CEILING, MODEL, RIDGE, SHUFFLED, read_content, read_scores
from mindeye_pl.steps.gallery.retrieve import COARSE, OWN_VECTOR, RERANKED
from mindeye_pl.steps.inputs.dataset import NSD_SOURCES, is_simulated
from mindeye_pl.store.artifacts import Artifact

#: Columns of the terminal, which has room for no more; the page has all.
TERMINAL = ("pixcorr", "ssim", "clip_two_way")

#: Titles of tables.
RECONSTRUCTIONS, GALLERY = "Reconstructions", "Gallery retrieval"

_LINES: dict[str, tuple[str, Kind, str]] = {
    SHUFFLED: ("shuffled brains", "null", ""),
    COARSE: ("coarse search", "model", "by one vector"),
    RERANKED: ("re-ranked", "model", "what it found, in the order of all tokens"),
    OWN_VECTOR: ("the image's own vector", "ceiling", "what the index alone can find"),
}


@dataclass(frozen=True)
class About:
    """Settings that all tables of a run depend on.

    Attributes:
        published: the papers' rows are shown; they are of real brains, and stand beside those alone.
        names: meaning of the retrieval directions' names, `published` or the paper's.
        top_k: ranks that count as found.
    """

    subject: int
    num_sessions: float | Literal["all"]
    simulated: bool
    published: bool
    names: str
    top_k: tuple[int, ...]

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """Return the settings of a configuration."""
        data, metrics, simulated = config.data, config.metrics, is_simulated(config)
        published = data.source in NSD_SOURCES and not simulated and config.report.published
        return cls(data.subject, data.num_sessions, simulated, published, metrics.names, tuple(metrics.top_k))

    def row(self, name: str, scores: Sequence[Score], kind: Kind = "model", note: str = "", **more: Any) -> Row:
        """Return a row of the run's data."""
        return Row(name, tuple(scores), kind=kind, note=note, simulated=self.simulated, **more)

    def published_rows(self, columns: Sequence[Column]) -> list[Row]:
        """Return the papers' rows."""
        return published_rows(self.subject, self.num_sessions, columns) if self.published else []


def retrieval_results(evaluation: Artifact, about: About, experiments: Sequence[Row]) -> Results:
    """Return retrieval in both directions, in pools and in the full set, with the experiments' rows."""
    model, hours = read_scores(evaluation, MODEL), hours_in_words(about.num_sessions)
    columns = retrieval_columns(model, about)
    rows = [
        about.row("chance", [replace(score, value=score.chance or 0.0, interval=None) for score in model], "null"),
        about.row("shuffled brains", read_scores(evaluation, SHUFFLED), "null"),
        ridge_row(evaluation, about, columns),
        *about.published_rows(columns),
        *experiments,
    ]
    if of_captions := read_scores(evaluation, CAPTIONS):
        note = "brains against captions, in place of images"
        rows.append(about.row(f"caption embedding, {hours}", of_captions, note=note))
    if ceiling := read_scores(evaluation, CEILING):
        rows.append(about.row("noise-free ceiling", ceiling, "ceiling", "ridge from all sessions without noise"))
    return Results("Retrieval", rows, columns, BY_DIRECTION)


def ridge_row(evaluation: Artifact, about: About, columns: Sequence[Column]) -> Row:
    """Return the row of ridge regression, with how it was tuned."""
    content, scores = read_content(evaluation), read_scores(evaluation, RIDGE)
    ridge, model = (_of_each(content, line) for line in (RIDGE, MODEL))
    differs = find_significant_differences(ridge, model, columns, _hit_rates(scores))
    name = f"ridge, {hours_in_words(about.num_sessions)}"
    return about.row(name, scores, "baseline", content["ridge"], differs=differs)


def retrieval_columns(model: Sequence[Score], about: About) -> list[Column]:
    """Return the two directions in pools first, then in the full set and for more ranks."""
    scores = {score.name: score for score in model}
    pool, full = (scores[f"{COLUMNS[0].score}{suffix}"].pool_size for suffix in ("", "_full"))
    source = "the published script prints it" if about.names == "published" else "the paper's text means it"
    tables, columns = {score: label for label, score in DIRECTIONS["published"].items()}, []
    for column in COLUMNS:
        labels = f'"{published_label(column.score, about.names)}", as {source}; "{tables[column.score]}" in its tables.'
        columns.append(replace(column, question=f"{column.question} {labels}", group=f"Among {pool}"))
    more = [f"_full_top{k}" for k in about.top_k if k != 1]
    for suffix in (*(["_full"] if full != pool else []), *more):
        rank = f", top {suffix.rpartition('_top')[2]}" if "_top" in suffix else ""
        columns += [
            Column(f"{column.title}{rank}", f"{column.score}{suffix}", column.question, group=f"Among all {full}")
            for column in COLUMNS
        ]
    return columns


def image_results(content: Mapping[str, Any], about: About, experiments: Sequence[Row]) -> list[Results]:
    """Return the reconstructions by every metric of the protocol, and one table for each encoder."""
    metrics = [TableMetric(**plain) for plain in content["metrics"]]
    tables = []
    for title in dict.fromkeys(metric.group for metric in metrics):
        columns, needs = _columns([metric for metric in metrics if metric.group == title], content["needs"])
        note = reconstructions_note(content) if title == RECONSTRUCTIONS else ""
        rows = image_rows(content, about, experiments, columns) if columns else []
        if rows or needs:
            tables.append(Results(title, rows, columns, note, needs))
    return tables


def reconstructions_note(content: Mapping[str, Any]) -> str:
    """Return the protocol, the order of the columns, the null rows that are not beaten, and the networks' training."""
    ordered = any(metric["human_agreement"] is not None for metric in content["metrics"])
    order = f" Columns by agreement with people ({SOURCE}); those that were not in the study follow." if ordered else ""
    judges = "; ".join(f"{title}: {trained}" for title, trained in content["judges"].items())
    training = f" Networks trained by others: {judges}." if judges else ""
    return f"Protocol {content['protocol']}.{order} {beside_null(content)}{training}"


def _columns(metrics: Sequence[TableMetric], needs: Mapping[str, str]) -> tuple[list[Column], list[str]]:
    """Return the columns of the metrics with their weights, and one line for each of the others."""
    columns, missing = [], []
    for metric in metrics:
        if metric.name in needs:
            missing.append(f"{metric.title} {needs[metric.name]}")
            continue
        limits = (0.0, 1.0) if metric.bounded else None
        form: Any = metric.form
        question, better = metric.question, metric.higher_is_better
        columns.append(Column(metric.title, metric.name, question, form, better, limits=limits))
    return columns, missing


def image_rows(
    content: Mapping[str, Any], about: About, experiments: Sequence[Row], columns: Sequence[Column]
) -> list[Row]:
    """Return the rows of the reconstructions' table that have a score in one of the columns."""
    rows, model = [*about.published_rows(columns), *experiments], _of_each(content, MODEL)
    for line, (name, kind, note) in LINES.items():
        scores = [Score.from_dict(plain) for plain in content["rows"].get(line, ())]
        if any(score.name in {column.score for column in columns} for score in scores):
            differs = find_significant_differences(_of_each(content, line), model, columns, _hit_rates(scores))
            note = "; ".join(filter(None, (note, content["baselines"].get(line))))
            rows.append(about.row(name, scores, kind, note, differs=differs))
    return rows


def _of_each(content: Mapping[str, Any], line: str) -> dict[str, np.ndarray]:
    return {name: np.array(each) for name, each in content["of_each_image"].get(line, {}).items()}


def _hit_rates(scores: Sequence[Score]) -> set[str]:
    return {score.name for score in scores if score.is_hit_rate}


def find_significant_differences(
    row: Mapping[str, np.ndarray], this_run: Mapping[str, np.ndarray], columns: Sequence[Column], hit_rates: set[str]
) -> dict[str, Difference]:
    """Return the columns in which the row is better or worse than this run, by `(N,)` scores of the same images.

    `hit_rates` are the names of the scores that are hit rates. The 95 % interval of a significant difference excludes
    zero, without correction for the number of columns.
    """
    found: dict[str, Difference] = {}
    for column in columns:
        if column.score in row and column.score in this_run:
            pair, hits = (row[column.score], this_run[column.score]), column.score in hit_rates
            low, high = difference_over_images(*pair, hits=hits).interval
            if low > 0 or high < 0:
                found[column.score] = "better" if (low > 0) == column.higher_is_better else "worse"
    return found


def caption_results(content: Mapping[str, Any], about: About, metrics: Sequence[TableMetric]) -> list[Results]:
    """Return the captions in the three published comparisons; none without captions."""
    columns, needs = _columns(metrics, content["needs"])
    if not content["captions"] and not needs:
        return []
    lines: dict[str, tuple[str, Kind]] = {
        CAPTION_SHUFFLED: ("another image's, reference", "null"),
        PREDICTED_REFERENCE: ("brain, reference", "model"),
        PREDICTED_IMAGE: ("brain, true image's", "model"),
        CAPTION_CEILING: ("true image's, reference", "ceiling"),
    }
    rows = [
        about.row(name, [Score.from_dict(plain) for plain in content["captions"][line]], kind)
        for line, (name, kind) in lines.items()
        if line in content["captions"]
    ]
    if rows:
        rows += about.published_rows(columns)
    return [Results("Captions", rows, columns, CAPTION_NOTE, needs)]


def gallery_results(content: Mapping[str, Any]) -> list[Results]:
    """Return recall before and after re-ranking, between shuffled brains and the image's own vector.

    The content of `recall.json` has no rows if the gallery lacks the true images.
    """
    lines, rows = content["rows"], []
    if not lines:
        return []
    last = RERANKED if RERANKED in lines else COARSE
    for line, (name, kind, note) in _LINES.items():
        if line in lines:
            scores, simulated = tuple(map(Score.from_dict, lines[line])), content["simulated"]
            rows.append(Row(name, scores, note=note, kind=kind, simulated=simulated, this_run=line == last))
    ranks = {score.name: score.name.rpartition("_")[2] for score in rows[0].scores}
    question = "Is the seen image among the first {} that were found?"
    columns = [Column(f"Recall at {k}", name, question.format(k)) for name, k in ranks.items()]
    vector = content["vector"]["kind"].replace("_", " ")
    note = (
        f"Among {content['pool_size']:,} images by index={content['engine']} over the {vector} of "
        f"embedder={content['embedder']}; recall at {content['top_k']} is what re-ranking can reach."
    )
    return [Results(GALLERY, rows, columns, note)]


def beside_null(content: Mapping[str, Any]) -> str:
    """Return one sentence: the scores of the reconstructions that are not significantly better than a null row."""
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
    """Return the amount of a subject's data."""
    return "all h" if num_sessions == "all" else f"{num_sessions} h"


def experiment_rows(run: Run, own: Artifact, step: Step) -> list[Row]:
    """Return the rows of this run, with its own scores of a step, and of the experiments that stand beside it."""
    config, rows, scores = run.config, [], read_scores(own, MODEL)
    simulated = is_simulated(config)
    if config.evaluate.reconstructions is not None:
        return [Row(str(config.evaluate.reconstructions), scores, simulated=simulated, this_run=True)]
    for name in config.report.compare:
        other = run.of_experiment(name)
        try:
            rows.append(_experiment_row(other.config, other.overrides, other.find(step), own))
        except UserError as error:  # of data that this experiment lacks and this run has not asked for
            rows.append(Row(name, status="cannot run", note=str(error)))
    if not any(row.this_run for row in rows):
        asked = any(item.startswith("data.num_sessions=") for item in run.overrides)
        label = f"{run.experiment}, {hours_in_words(config.data.num_sessions)}" if asked else run.experiment
        rows.insert(0, Row(label, scores, simulated=simulated, this_run=True))
    return rows


def _experiment_row(config: DictConfig, overrides: Sequence[str], artifact: Artifact | None, own: Artifact) -> Row:
    """Return the row of an experiment; empty where it was not run."""
    start = "pretrained" if config.finetune.start == "pretrained" else "scratch"
    label, simulated = f"{start}, {hours_in_words(config.data.num_sessions)}", is_simulated(config)
    if artifact is None:
        return Row(label, command=f"python -m mindeye_pl {shlex.join(overrides)}", simulated=simulated)
    mine = artifact.fingerprint == own.fingerprint
    return Row(label, read_scores(artifact, MODEL), simulated=simulated, this_run=mine)
