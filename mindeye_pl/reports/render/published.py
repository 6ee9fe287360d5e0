"""Published results on the real NSD, each with its paper and table.

`published.json` holds the numbers as printed, percentages as percentages. It contains only numbers that were read in
the paper or in its authors' notebooks (provenance "P"), and means computed from those ("C").
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mindeye_pl.data.nsd.constants import FIRST_RELEASED_SESSIONS
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import Column, Row

#: Subjects that completed all sessions; "mean" is the mean over them.
SUBJECTS = (1, 2, 5, 7)
#: Number of test images, unless a table states fewer.
NUM_IMAGES = 1000


def published_rows(
    subject: int | None, hours: float | Literal["all"], columns: Sequence[Column], *, detail: bool = False
) -> list[Row]:
    """Return published rows for the table of a run on real NSD data, with their sources.

    Args:
        subject: subject of the rows, in addition to the mean over subjects, which represents methods that printed only
            the mean; None for the mean only.
        hours: hours of the subject's data; "all" and the sessions released first mean 40. Papers printed 1 and 40, and
            10 in ablations.
        columns: rows without any of these are left out.
        detail: include ablations and notebooks.
    """
    num_hours = 40 if hours in ("all", FIRST_RELEASED_SESSIONS) else hours
    names = [column.score for column in columns]
    merged: dict[tuple[str, str], dict[str, tuple[float, Mapping[str, Any]]]] = {}
    for table in _content()["tables"]:
        if table["hours"] not in ("any", num_hours) or (table.get("detail", False) and not detail):
            continue
        for method, *values in table["rows"]:
            owner = values.pop(0) if table["subject"] == "each" else table["subject"]
            if owner in ("mean", "any", subject):
                pairs = zip(table["scores"], values, strict=True)
                printed = {name: (value, table) for name, value in pairs if value is not None and name in names}
                merged.setdefault((method, _format_subject(owner)), {}).update(printed)
    return [_row(method, owner, line, names) for (method, owner), line in merged.items() if line]


@cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text())


def _score(name: str, value: float, table: Mapping[str, Any]) -> Score:
    metric = _content()["metrics"][name]
    pool_size = metric.get("pool_size")
    return Score(
        name,
        value=round(value / 100, 6) if metric["unit"] == "percent" else value,
        chance=None if pool_size is None else 1 / pool_size,
        pool_size=pool_size,
        num_images=table.get("num_images", NUM_IMAGES),
        higher_is_better=not metric.get("lower_is_better", False),
    )


def _format_subject(subject: int | str) -> str:
    if subject == "mean":
        return f"mean of subjects {', '.join(map(str, SUBJECTS))}"
    return "" if subject == "any" else f"subject {subject}"


def _row(method: str, owner: str, line: Mapping[str, tuple[float, Mapping[str, Any]]], names: Sequence[str]) -> Row:
    """Return the row of one method and subject, with its source tables."""
    by_paper: dict[str, dict[str, None]] = {}
    for _, table in line.values():
        by_paper.setdefault(_content()["papers"][table["paper"]], {})[table["table"]] = None
    notes = dict.fromkeys(table["note"] for _, table in line.values() if "note" in table)
    return Row(
        method,
        tuple(_score(name, *line[name]) for name in names if name in line),
        note=", ".join(filter(None, [owner, *notes])),
        kind="published",
        source="; ".join(", ".join([paper, *tables]) for paper, tables in by_paper.items()),
    )
