"""Scores of summaries in the words of a page."""

from collections.abc import Mapping
from typing import Any

#: A score of a summary: `value`, `interval`, `chance`, `pool_size`, `num_images`.
PlainScore = Mapping[str, Any]

#: Decimals by the form of a column; percentages are of a hundred.
_DECIMALS = {"percent": 1, "number": 3, "integer": 0}


def format_score(score: PlainScore, form: str, decimals: int | None = None) -> str:
    """Return "76.0 % (69.2-82.1)", or "0.697 (0.660-0.729)"; the interval only where there is one."""
    unit = " %" if form == "percent" else ""
    value = f"{_number(score['value'], form, decimals)}{unit}"
    if (interval := score.get("interval")) is None:
        return value
    low, high = (_number(end, form, decimals) for end in interval)
    return f"{value} ({low}-{high})"


def format_difference(score: PlainScore, form: str, decimals: int | None = None) -> str:
    """Return "+51.5 (44.0 to 59.2)" in points, or "+0.138 (0.109 to 0.175)"."""
    value = f"{_number(score['value'], form, decimals, sign='+')}"
    if (interval := score.get("interval")) is None:
        return value
    low, high = (_number(end, form, decimals) for end in interval)
    return f"{value} ({low} to {high})"


def _number(value: float, form: str, decimals: int | None, sign: str = "") -> str:
    digits = _DECIMALS[form] if decimals is None else decimals
    return f"{(100 if form == 'percent' else 1) * value:{sign}.{digits}f}"
