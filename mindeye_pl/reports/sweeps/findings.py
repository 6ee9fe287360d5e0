"""Findings of a sweep: paired differences, curves over hours, and a sentence for each question.

Legend: H amounts of data, K seeds, n test images.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.data_worth import DataWorth, data_worth, format_data_worth
from mindeye_pl.metrics.statistics.intervals import Difference, difference_over_images, difference_over_seeds
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.table import Column, Row
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import (
    HOURS,
    SEED,
    START,
    Cell,
    common_seeds,
    in_words,
    pairs,
    sorted_by,
    swept_keys,
)

#: What a value of a compared parameter is called where it is worth so much data.
_NOUNS = {(START, "pretrained"): "pretraining"}


def compared(jobs: Sequence[Job], cells: Sequence[Cell], key: str | None, baseline: object) -> tuple[str | None, str]:
    """The swept parameter whose values are compared, and the value that the others are compared with.

    Args:
        jobs: of the sweep.
        cells: of the same.
        key: the parameter; None for the last one that is swept, seed and hours aside.
        baseline: the value; None for the first one.

    Returns:
        Both; None for the parameter where nothing but seed and hours is swept.

    Raises:
        UserError: for what is not swept.
    """
    keys = [swept for swept in swept_keys(jobs) if swept not in (SEED, HOURS)]
    if key is None and not keys:
        return None, ""
    key = key or keys[-1]
    if key not in keys:
        raise UserError("sweep.compare is not swept", got=key, expected=f"one of {keys}")
    values = list(dict.fromkeys(cell.settings[key] for cell in cells))
    chosen = values[0] if baseline is None else str(baseline)
    if chosen not in values:
        raise UserError("sweep.baseline is not swept", got=chosen, expected=f"one of {values}")
    return key, chosen


def compare(cells: Sequence[Cell], key: str, baseline: str, columns: Sequence[Column], *, simulated: bool) -> list[Row]:
    """The table of paired differences, each cell minus the one that differs only in `key`.

    Args:
        cells: of the sweep.
        key: the compared parameter.
        baseline: its value that is subtracted.
        columns: the scores.
        simulated: whether the data are.
    """
    rows = []
    for cell, reference in pairs(cells, key, baseline):
        scores = [column.score for column in columns]
        found = [difference for name in scores if (difference := _difference(cell, reference, name)) is not None]
        if found:
            where = [in_words(name, value) for name, value in cell.settings.items() if name != key]
            pair = f"{in_words(key, cell.settings[key])} − {in_words(key, baseline)}"
            name = ": ".join(filter(None, [", ".join(where), pair]))
            note = "; ".join(text for column in columns if (text := _over_seeds(cell, reference, column)))
            rows.append(Row(name, tuple(found), note=note, simulated=simulated))
    return rows


def _arrays(cell: Cell, reference: Cell, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of the seeds that both have, `(K, n)` each."""
    seeds = common_seeds(cell, reference)
    both = cell.of_each(metric, seeds), reference.of_each(metric, seeds)
    if not seeds or both[0] is None or both[1] is None or both[0].shape != both[1].shape:
        return None
    return both[0], both[1]


def _paired(cell: Cell, reference: Cell, metric: str) -> Difference | None:
    arrays = _arrays(cell, reference, metric)
    return None if arrays is None else difference_over_images(*arrays)


def _difference(cell: Cell, reference: Cell, metric: str) -> Score | None:
    """The mean difference as a score of its own."""
    difference, score = _paired(cell, reference, metric), cell.score(metric)
    if difference is None or score is None:
        return None
    return replace(score, value=difference.value, interval=difference.interval, chance=None, pool_size=None)


def _over_seeds(cell: Cell, reference: Cell, column: Column) -> str:
    """The interval of a difference over seeds; with two or three of them it is wide."""
    arrays = _arrays(cell, reference, column.score)
    if arrays is None or len(arrays[0]) < 2:
        return ""
    ends = difference_over_seeds(*(values.mean(1) for values in arrays)).interval
    low, high = (f"{100 * end:+.1f}" if column.form == "percent" else f"{end:+.3f}" for end in ends)
    return f"{column.title} over {len(arrays[0])} seeds {low} to {high}"


def curves(cells: Sequence[Cell], columns: Sequence[Column]) -> list[Panel]:
    """One chart for each score against the hours of data, a line for each other setting; none for a single amount."""
    lines: dict[str, list[Cell]] = {}
    for cell in sorted_by(cells, lambda cell: cell.hours):
        name = ", ".join(in_words(*item) for item in _without_hours(cell).items())
        lines.setdefault(name or "this sweep", []).append(cell)
    panels = []
    for column in columns:
        series = [line for name, members in lines.items() if (line := _series(name, members, column.score)) is not None]
        if any(len(line.x) > 1 for line in series):
            panels.append(_panel(column, series, cells))
    return panels


def _series(name: str, cells: Sequence[Cell], metric: str) -> Series | None:
    points = []
    for cell in cells:
        values = [scores.scores[metric].value for scores in cell.by_seed.values() if metric in scores.scores]
        if values and cell.hours is not None:
            points.append((cell.hours, float(np.mean(values)), min(values), max(values)))
    if not points:
        return None
    x, y, low, high = (list(values) for values in zip(*points, strict=True))
    return Series(name, x, y, low=low, high=high)


def _panel(column: Column, series: Sequence[Series], cells: Sequence[Cell]) -> Panel:
    scores = [score for cell in cells if (score := cell.score(column.score)) is not None]
    chances = {score.chance for score in scores}
    chance = chances.pop() if len(chances) == 1 else None
    return Panel(
        column.title,
        tuple(series),
        x_label="hours of the subject's data",
        references={} if chance is None else {"chance": chance},
        is_percent=column.form == "percent",
        log_x=True,
    )


def sentences(cells: Sequence[Cell], key: str, baseline: str, column: Column) -> list[str]:
    """Return the findings about one score: the amount of data that a value of `key` equals, else its paired difference.

    Args:
        cells: of the sweep.
        key: the compared parameter.
        baseline: its value that others are compared with.
        column: of the score.
    """
    title = column.title if column.title[1:2].isupper() else column.title[0].lower() + column.title[1:]
    if worth := _worth(cells, key, baseline, column.score):
        return [f"By {title} {words}." for words in worth]
    said = []
    for cell, reference in pairs(cells, key, baseline):
        difference = _paired(cell, reference, column.score)
        if difference is not None:
            low, high = difference.interval
            clear = "" if low > 0 or high < 0 else ", which may be nothing"
            scale, unit = (100, " points") if column.form == "percent" else (1, "")
            said.append(
                f"{cell.name}: {title} {scale * difference.value:+.3g}{unit} against "
                f"{reference.name}, 95 % interval {scale * low:+.3g} to {scale * high:+.3g}{clear}."
            )
    return said


def _worth(cells: Sequence[Cell], key: str, baseline: str, metric: str) -> list[str]:
    """For each cell of another value, what that value is worth against the baseline's curve over hours."""
    said = []
    for cell in sorted_by(cells, lambda cell: cell.hours):
        value = cell.settings[key]
        line = _without_hours(cell) | {key: baseline}
        curve = sorted_by([other for other in cells if _without_hours(other) == line], lambda cell: cell.hours)
        if value != baseline and (worth := _worth_of(cell, curve, metric)) is not None:
            noun = _NOUNS.get((key, value), in_words(key, value))
            others = ", ".join(in_words(*item) for item in _without_hours(cell).items() if item[0] != key)
            said.append(format_data_worth(worth, f"{noun} ({others})" if others else noun))
    return said


def _without_hours(cell: Cell) -> dict[str, str]:
    return {name: value for name, value in cell.settings.items() if name != HOURS}


def _worth_of(cell: Cell, curve: Sequence[Cell], metric: str) -> DataWorth | None:
    """None for a curve of one point, or where scores of single images are lacking."""
    seeds = [seed for seed in cell.by_seed if all(seed in other.by_seed for other in curve)]
    own, score = cell.of_each(metric, seeds), cell.score(metric)
    rows = [row for other in curve if (row := other.of_each(metric, seeds)) is not None]
    amounts = [other.hours for other in curve if other.hours is not None]
    if own is None or score is None or cell.hours is None or len(curve) < 2 or len(rows) < len(curve):
        return None
    sign = 1 if score.higher_is_better else -1
    return data_worth(amounts=amounts, reference=sign * np.stack(rows), method=sign * own, at=cell.hours)
