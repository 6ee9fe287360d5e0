"""Curves of a sweep: each score along one swept parameter, `sweep.over`."""

from collections.abc import Sequence

import numpy as np

from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.sweeps.settings import DIMENSIONS, HOURS, Cell

#: Titles of horizontal axes by parameter, and their values where a number says less.
_TITLES = {HOURS: "hours of the subject's data", DIMENSIONS: "dimensions of the brain's code"}
_VALUES = {(DIMENSIONS, "null"): "all"}

#: Meaning of the bars of every line.
BARS = "Bars: from the lowest to the highest seed; 95 % interval over images where there is one seed."


def curves(cells: Sequence[Cell], columns: Sequence[Column], over: str = HOURS) -> list[Panel]:
    """Return one chart for each score along a swept parameter, a line for each other setting; none for one value.

    Amounts of data have a logarithmic axis, without those that are no number. Values of another parameter stand at
    equal distances in the order of the cells. Cells that do not depend on the parameter are dashed lines.

    Args:
        cells: the models' in the order in which they were swept and, behind them, those of their baselines.
        columns: of the scores.
        over: the swept parameter.
    """
    values = list(dict.fromkeys(cell.settings[over] for cell in cells if over in cell.settings))
    lines: dict[str, list[tuple[float, Cell]]] = {}
    for cell in cells:
        if (x := _position(cell, over, values)) is not None:
            lines.setdefault(cell.name_without(over), []).append((x, cell))
    level = [cell for cell in cells if over not in cell.settings]
    panels = []
    for column in columns:
        series = [_series(name, members, column.score) for name, members in lines.items()]
        drawn = tuple(line for line in series if line.x)
        chances = {score.chance for cell in cells if (score := cell.score(column.score)) is not None}
        chance = chances.pop() if len(chances) == 1 else None
        references = {} if chance is None else {"chance": chance}
        references |= {cell.name: score.value for cell in level if (score := cell.score(column.score)) is not None}
        if any(len(line.x) > 1 for line in drawn):
            panels.append(
                Panel(
                    column.title,
                    drawn,
                    x_label=_TITLES.get(over, over),
                    references=references,
                    is_percent=column.form == "percent",
                    log_x=over == HOURS,
                    x_names=() if over == HOURS else tuple(_VALUES.get((over, value), value) for value in values),
                )
            )
    return panels


def title_of(over: str) -> str:
    """Return the title of the charts' section."""
    return f"Scores against {_TITLES.get(over, over).partition(' of ')[0]}"


def _position(cell: Cell, over: str, values: Sequence[str]) -> float | None:
    if over == HOURS:
        return cell.hours
    return float(values.index(cell.settings[over])) if over in cell.settings else None


def _series(name: str, members: Sequence[tuple[float, Cell]], metric: str) -> Series:
    """Return the line of some cells, with bars from the lowest to the highest seed, or the interval of one seed."""
    x, y, low, high = [], [], [], []
    for position, cell in sorted(members, key=lambda member: member[0]):
        found = [scores.scores[metric] for scores in cell.by_seed.values() if metric in scores.scores]
        if found:
            values = [score.value for score in found]
            ends = (found[0].interval if len(found) == 1 else None) or (min(values), max(values))
            x.append(position)
            y.append(float(np.mean(values)))
            low.append(ends[0])
            high.append(ends[1])
    return Series(name, x, y, low, high)
