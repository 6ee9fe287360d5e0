"""The page of a run: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindeye_pl.artifacts import write_text
from mindeye_pl.metrics.score import Score
from mindeye_pl.reports.curves import Panel, draw, in_words
from mindeye_pl.reports.table import COLUMNS, Column, Row, chance, interval, shown, title_of

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Training:
    """The curves of one training, "Fine-tuning" for instance."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class UsedArtifact:
    """Finished work that the run was made from."""

    step: str
    label: str
    fingerprint: str
    seconds: float | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page: an id for links, a heading and HTML that is already escaped."""

    id: str
    title: str
    html: str


@dataclass(frozen=True)
class Results:
    """A table of scores.

    Attributes:
        title: "Retrieval" for instance.
        rows: its lines.
        columns: its metrics.
        note: a sentence under it.
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column] = COLUMNS
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """All that the page shows.

    Attributes:
        title: of the page.
        summary: one sentence in plain words.
        simulated: whether the data are; a banner says so.
        results: the tables, in order; those without rows are left out.
        trainings: whose curves are drawn.
        settings: the resolved configuration, as yaml.
        environment: versions, machine, commit, seed, time, memory: name to value.
        artifacts: with their fingerprints.
        pictures: sections of pictures, after the tables.
        more: further sections, after the curves.
    """

    title: str
    summary: str
    simulated: bool
    results: Sequence[Results] = ()
    trainings: Sequence[Training] = ()
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[UsedArtifact] = ()
    pictures: Sequence[Section] = ()
    more: Sequence[Section] = ()


def write_report(path: Path, data: ReportData) -> None:
    """Writes the page; an older one stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(data))


def render(data: ReportData) -> str:
    """The page as HTML."""
    parts = [
        *map(results_section, data.results),
        *data.pictures,
        *(curves_section(training) for training in data.trainings),
        *data.more,
        settings_section(data.settings),
        environment_section(data.environment),
        artifacts_section(data.artifacts),
    ]
    sections = [part for part in parts if part is not None]
    return fill("page.html", title=data.title, summary=data.summary, simulated=data.simulated, sections=sections)


def results_section(results: Results) -> Section | None:
    """The table, each score with its 95 % interval drawn on a line from 0 to 100 %, or from 0 to 1."""
    rows, columns = results.rows, results.columns
    if not rows:
        return None
    lines = [
        {
            "row": row,
            "cells": [_cell(row.score(column.score), column) for column in columns],
            "chance": chance(row, columns),
        }
        for row in rows
    ]
    title = title_of(results.title, rows)
    html = fill("results.html", title=title, columns=columns, lines=lines, note=results.note)
    return Section(results.title.lower().replace(" ", "-"), title, html)


def _cell(score: Score | None, column: Column) -> dict[str, Any] | None:
    """A score as text and as places on its line, in per cent."""
    if score is None:
        return None
    low, high = (min(max(100 * end, 0), 100) for end in score.interval or (score.value, score.value))
    return {
        "value": shown(score, column),
        "interval": interval(score, column),
        "low": low,
        "width": high - low,
        "dot": min(max(100 * score.value, 0), 100),
        "chance": None if score.chance is None else 100 * score.chance,
    }


def curves_section(training: Training) -> Section | None:
    """The charts of one training."""
    if not training.panels:
        return None
    charts = [{"title": panel.title, "words": in_words(panel), "svg": draw(panel)} for panel in training.panels]
    return Section(training.title.lower().replace(" ", "-"), training.title, fill("curves.html", charts=charts))


def settings_section(settings: str) -> Section | None:
    """The resolved configuration, folded."""
    return Section("settings", "Settings", fill("settings.html", settings=settings)) if settings else None


def environment_section(environment: Mapping[str, str]) -> Section | None:
    """Names and values."""
    if not environment:
        return None
    return Section("environment", "Environment", fill("environment.html", environment=environment))


def artifacts_section(artifacts: Sequence[UsedArtifact]) -> Section | None:
    """What the run was made from, by fingerprint."""
    return Section("artifacts", "Artifacts", fill("artifacts.html", artifacts=artifacts)) if artifacts else None


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mindeye_pl.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: str, **values: Any) -> str:
    """A template of this package as HTML, every value escaped."""
    return _templates().get_template(template).render(**values)
