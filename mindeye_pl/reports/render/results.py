"""Page section with a table of results: few columns with their questions, or many columns in groups."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mindeye_pl.reports.render.section import Section, fill, slug
from mindeye_pl.reports.render.table import Column, Results, Row, format_chance, format_interval, format_value

#: With more columns, the questions are listed below the table, and intervals below the scores.
MAX_NARROW_COLUMNS = 4


def results_section(results: Results) -> Section | None:
    """Return the table as a section, each score with its 95 % interval drawn on a scale; None without rows."""
    rows, columns = results.rows, results.columns
    if not rows:
        return None
    wide = len(columns) > MAX_NARROW_COLUMNS
    html = fill(
        "results.html",
        results=results,
        heads=[(column, _common_chance(rows, column) if wide else "") for column in columns],
        spans=group_spans(columns),
        wide=wide,
        sortable=sum(bool(row.scores) for row in rows) > 1,
        chance=format_chance,
        scaled=lambda row, column: _scaled(row, column, _limits(rows, column)),
    )
    return Section(slug(results.title), results.title, html)


def group_spans(columns: Sequence[Column]) -> list[tuple[str, int, int]]:
    """Return the title, first and last column of each column group, counted from 1."""
    spans, last = [], 0
    for name, members in groupby(columns, key=lambda column: column.group):
        first, last = last + 1, last + len(list(members))
        spans.append((name, first, last))
    return spans


def _scaled(row: Row, column: Column, limits: tuple[float, float]) -> dict[str, Any] | None:
    """Return a score as text and as positions on its scale, in percent."""
    score = row.score(column.score)
    if score is None:
        return None

    def position(value: float) -> float:
        return min(max(100 * (value - limits[0]) / (limits[1] - limits[0]), 0), 100)

    low, high = (position(end) for end in score.interval or (score.value, score.value))
    return {
        "raw": f"{score.value:.6g}",
        "value": format_value(score.value, column),
        "interval": format_interval(score, column),
        "mark": row.mark(column),
        "low": low,
        "width": high - low,
        "dot": position(score.value),
        "chance": None if score.chance is None else position(score.chance),
    }


def _limits(rows: Sequence[Row], column: Column) -> tuple[float, float]:
    """Return the limits of the column's scale: those of its metric, or of its scores."""
    if column.limits is not None:
        return column.limits
    scores = [score for row in rows if (score := row.score(column.score)) is not None]
    ends = [end for score in scores for end in (score.value, *(score.interval or ()))] or [0.0]
    low, high = min(0.0, *ends), max(ends)
    return (low, high) if high > low else (low, low + 1)


def _common_chance(rows: Sequence[Row], column: Column) -> str:
    """Return chance and pool size for the column header if they are the same in all rows, else an empty string."""
    found = {text for row in rows if row.score(column.score) and (text := format_chance(row, [column]))}
    return found.pop() if len(found) == 1 else ""
