"""Findings of a sweep: paired differences, and a sentence for each question.

Legend: H amounts of data, K seeds, n test images.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.data_worth import DataWorth, data_worth, format_data_worth
from mindeye_pl.metrics.statistics.differences import Difference, difference_over_images, difference_over_seeds
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.metrics.statistics.seeds import MIN_SEEDS
from mindeye_pl.reports.render.table import Column, Row
from mindeye_pl.reports.sweeps.baselines import of_same_data
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.reports.sweeps.settings import (
    HOURS,
    SEED,
    START,
    Cell,
    by_hours,
    common_seeds,
    in_words,
    pairs,
    swept_keys,
)

#: Names of a compared parameter's values in a sentence on the data that they are worth.
_NOUNS = {(START, "pretrained"): "pretraining"}


def compared(jobs: Sequence[Job], cells: Sequence[Cell], key: str | None, baseline: object) -> tuple[str | None, str]:
    """Return the swept parameter whose values are compared, and the value that the others are compared with.

    By default they are the last swept parameter, except seed and hours, and its first value. The parameter is None if
    only seed and hours are swept.

    Raises:
        UserError: if the parameter or the value is not swept.
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
    """Return the rows of paired differences: each cell minus the one that has `baseline` as its `key`."""
    rows = []
    for cell, reference in pairs(cells, key, baseline):
        paired = [_difference(cell, reference, column.score) for column in columns]
        if found := tuple(difference for difference in paired if difference is not None):
            others = [in_words(name, value) for name, value in cell.settings.items() if name != key]
            pair = f"{in_words(key, cell.settings[key])} − {in_words(key, reference.settings[key])}"
            name = ": ".join(filter(None, [", ".join(others), pair]))
            seeds = covered_by_interval(len(common_seeds(cell, reference)))
            rows.append(Row(name, found, note=seeds, simulated=simulated))
    return rows


def compare_with_baselines(
    cells: Sequence[Cell], baselines: Sequence[Cell], columns: Sequence[Column], *, simulated: bool
) -> list[Row]:
    """Return the rows of paired differences: each cell minus each baseline of the same data."""
    rows = []
    for cell in cells:
        for baseline in of_same_data(cell, baselines):
            paired = [_difference(cell, baseline, column.score) for column in columns]
            if found := tuple(difference for difference in paired if difference is not None):
                seeds = covered_by_interval(len(common_seeds(cell, baseline)))
                rows.append(Row(f"{cell.name} − {baseline.baseline}", found, note=seeds, simulated=simulated))
    return rows


def _arrays(cell: Cell, reference: Cell, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the scores of the seeds that both have, `(K, n)` each."""
    seeds = common_seeds(cell, reference)
    first, second = cell.of_each(metric, seeds), reference.of_each(metric, seeds)
    return None if first is None or second is None or first.shape != second.shape else (first, second)


def _paired(cell: Cell, reference: Cell, metric: str) -> Difference | None:
    """Return the mean difference with its interval over images, and over seeds if there are `MIN_SEEDS`."""
    arrays, score = _arrays(cell, reference, metric), cell.score(metric)
    if arrays is None or score is None:
        return None
    compute = difference_over_seeds if len(arrays[0]) >= MIN_SEEDS else difference_over_images
    return compute(*arrays, hits=score.is_hit_rate)


def _difference(cell: Cell, reference: Cell, metric: str) -> Score | None:
    """Return the mean difference as a score of its own."""
    difference, score = _paired(cell, reference, metric), cell.score(metric)
    if difference is None or score is None:
        return None
    return replace(score, value=difference.value, interval=difference.interval, chance=None, pool_size=None)


def covered_by_interval(num_seeds: int) -> str:
    """Return the seeds of an interval in words; with fewer than `MIN_SEEDS` of them it is not for other seeds."""
    seeds = f"{num_seeds} seed" + ("s" if num_seeds > 1 else "")
    return seeds if num_seeds >= MIN_SEEDS else f"{seeds}, interval over images alone"


def sentences(cells: Sequence[Cell], key: str, baseline: str, column: Column) -> list[str]:
    """Return the findings about one score: the amount of data that a value of `key` equals, else paired differences."""
    title = column.title if column.title[1:2].isupper() else column.title[0].lower() + column.title[1:]
    if worth := _worth(cells, key, baseline, column.score):
        return [f"By {title} {words}." for words in worth]
    found = []
    for cell, reference in pairs(cells, key, baseline):
        if (difference := _paired(cell, reference, column.score)) is not None:
            low, high = difference.interval
            clear = "" if low > 0 or high < 0 else ", which may be nothing"
            seeds = covered_by_interval(len(common_seeds(cell, reference)))
            scale, unit = (100, " points") if column.form == "percent" else (1, "")
            found.append(
                f"{cell.name}: {title} {scale * difference.value:+.3g}{unit} against "
                f"{reference.name}, 95 % interval {scale * low:+.3g} to {scale * high:+.3g} ({seeds}){clear}."
            )
    return found


def _worth(cells: Sequence[Cell], key: str, baseline: str, metric: str) -> list[str]:
    """Return, for each cell of another value, the data that the value is worth by the baseline's curve over hours."""
    found = []
    for cell in by_hours(cells):
        value, line = cell.settings[key], cell.without_hours | {key: baseline}
        curve = by_hours([other for other in cells if other.without_hours == line])
        if value != baseline and (worth := _worth_of(cell, curve, metric)) is not None:
            noun = _NOUNS.get((key, value), in_words(key, value))
            others = ", ".join(in_words(*item) for item in cell.without_hours.items() if item[0] != key)
            found.append(format_data_worth(worth, f"{noun} ({others})" if others else noun))
    return found


def _worth_of(cell: Cell, curve: Sequence[Cell], metric: str) -> DataWorth | None:
    """Return None for a curve of one point, or if per-image scores are missing."""
    seeds = [seed for seed in cell.by_seed if all(seed in other.by_seed for other in curve)]
    own, score = cell.of_each(metric, seeds), cell.score(metric)
    rows = [row for other in curve if (row := other.of_each(metric, seeds)) is not None]
    amounts = [other.hours for other in curve if other.hours is not None]
    if own is None or score is None or cell.hours is None or len(curve) < 2 or len(rows) < len(curve):
        return None
    sign, hits = 1 if score.higher_is_better else -1, score.is_hit_rate
    return data_worth(amounts=amounts, reference=sign * np.stack(rows), method=sign * own, at=cell.hours, hits=hits)
