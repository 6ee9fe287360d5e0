"""Scores as numbers and table rows of a step's record."""

from collections.abc import Iterable, Mapping
from typing import Any

#: Columns of every table of scores: one row for each line and metric.
COLUMNS = ("line", "kind", "metric", "value", "low", "high", "chance", "pool_size", "num_images", "higher_is_better")

Plain = Mapping[str, Any]


def score_summary(scores: Iterable[Plain], prefix: str = "") -> dict[str, float]:
    """Return scores as numbers: `score/NAME`, with `_low`, `_high`, `_chance`, `_pool` and `_images` beside it."""
    summary: dict[str, float] = {}
    for score in scores:
        low, high = score["interval"] or (None, None)
        parts = {"": score["value"], "_low": low, "_high": high, "_chance": score["chance"]}
        parts |= {"_pool": score["pool_size"], "_images": score["num_images"]}
        name = f"score/{prefix}{score['name']}"
        summary |= {f"{name}{part}": value for part, value in parts.items() if value is not None}
    return summary


def score_table(lines: Mapping[str, Iterable[Plain]], kinds: Mapping[str, str]) -> list[list[Any]]:
    """Return lines of scores as rows of a table with `COLUMNS`; a line without a kind is a model's."""
    rows = []
    for line, scores in lines.items():
        for score in scores:
            low, high = score["interval"] or (None, None)
            more = [score[key] for key in ("chance", "pool_size", "num_images", "higher_is_better")]
            rows.append([line, kinds.get(line, "model"), score["name"], score["value"], low, high, *more])
    return rows
