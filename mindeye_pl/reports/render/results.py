"""The table of results on the page: few columns with their questions, or many in groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mindeye_pl.reports.render.section import Section, fill, slug
from mindeye_pl.reports.render.table import (
    COLUMNS,
    DIFFERENCES,
    KINDS,
    Column,
    Row,
    by_kind,
    chance,
    interval,
    remarks,
    shown,
    title_of,
)

#: With more columns the questions move under the table, and a line holds one score below the other.
FEW_COLUMNS = 4


@dataclass(frozen=True)
class Results:
    """A table of scores.

    Attributes:
        title: "Retrieval" for instance.
        rows: its lines.
        columns: its metrics.
        note: a sentence under it.
        needs: a line for each metric that lacks its weights: "AlexNet(2) needs FILE: COMMAND".
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column] = COLUMNS
    note: str = ""
    needs: Sequence[str] = ()


def results_section(results: Results) -> Section | None:
    """The table, each score with its 95 % interval drawn on a line; None where it has no rows."""
    rows, columns = results.rows, results.columns
    if not rows:
        return None
    wide = len(columns) > FEW_COLUMNS
    limits = {column.score: _limits(rows, column) for column in columns}
    heads = [
        {"column": column, "chance": _one_chance(rows, column) if wide else "", "limits": limits[column.score]}
        for column in columns
    ]
    said = {head["column"].score for head in heads if head["chance"]}  # type: ignore[attr-defined]
    groups = [
        {"title": KINDS[kind], "lines": [_line(row, rows, columns, limits, wide, said) for row in members]}
        for kind, members in by_kind(rows)
    ]
    differences = {name for row in rows for name in row.differs.values()}
    html = fill(
        "results.html",
        title=title_of(results.title, rows),
        heads=heads,
        spans=[(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column.group)],
        groups=groups,
        wide=wide,
        sortable=sum(bool(row.scores) for row in rows) > 1,
        marks=[words for name, words in DIFFERENCES.items() if name in differences],
        note=results.note,
        needs=[need.partition(": ") for need in results.needs],
        unlimited=[column.title for column in columns if column.limits is None],
    )
    return Section(slug(results.title), results.title, html)


def _line(
    row: Row,
    rows: Sequence[Row],
    columns: Sequence[Column],
    limits: dict[str, tuple[float, float]],
    wide: bool,
    said: set[str],
) -> dict[str, Any]:
    return {
        "row": row,
        "remarks": remarks(row, rows),
        "cells": [_cell(row, column, limits[column.score], wide and column.score not in said) for column in columns],
        "chance": "" if wide else chance(row, columns),
    }


def _cell(row: Row, column: Column, limits: tuple[float, float], own_chance: bool) -> dict[str, Any] | None:
    """A score as text and as places on its line, in per cent."""
    score = row.score(column.score)
    if score is None:
        return None

    def place(value: float) -> float:
        return min(max(100 * (value - limits[0]) / (limits[1] - limits[0]), 0), 100)

    low, high = (place(end) for end in score.interval or (score.value, score.value))
    return {
        "score": column.score,
        "raw": f"{score.value:.6g}",
        "value": shown(score, column),
        "interval": interval(score, column),
        "difference": DIFFERENCES[row.differs[column.score]] if column.score in row.differs else None,
        "chance_words": chance(row, [column]) if own_chance else "",
        "low": low,
        "width": high - low,
        "dot": place(score.value),
        "chance": None if score.chance is None else place(score.chance),
    }


def _limits(rows: Sequence[Row], column: Column) -> tuple[float, float]:
    """Between which values the column's line is drawn: its metric's own, or those of its scores."""
    if column.limits is not None:
        return column.limits
    scores = [score for row in rows if (score := row.score(column.score)) is not None]
    ends = [end for score in scores for end in (score.value, *(score.interval or ()))] or [0.0]
    low, high = min(0.0, *ends), max(ends)
    return (low, high) if high > low else (low, low + 1)


def _one_chance(rows: Sequence[Row], column: Column) -> str:
    """Chance and pool size where all rows have the same, for the column's head."""
    found = {text for row in rows if row.score(column.score) and (text := chance(row, [column]))}
    return found.pop() if len(found) == 1 else ""
