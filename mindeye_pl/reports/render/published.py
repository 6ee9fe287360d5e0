"""Published results on the real NSD, each with its paper and table.

`published.json` holds the numbers as printed, percentages as percentages, with the provenance of each table: read in
the paper, its authors' notebooks or repository ("P"), a mean computed from those ("C"), or quoted from a paper that was
not read ("S", marked as secondary). Numbers that were read off a figure or recalled are not in it.

Retrieval stands there under the paper's label, and here under its direction (`DIRECTIONS`).
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

#: Score of a paper's label, by the code that computed it. The evaluations of MindEye1 and MindEye2 print "Image
#: retrieval" from `batchwise_cosine_similarity(brain, clip)`, whose rows are images: for each image it ranks the brains
#: (MindEye2, spec section 6.8; MindEye1, spec section 9.1). Where the code is unknown, the label is kept and marked.
DIRECTIONS = {
    "published": {"Image retrieval": "brain_retrieval", "Brain retrieval": "image_retrieval"},
    "unknown": {"Image retrieval": "image_retrieval", "Brain retrieval": "brain_retrieval"},
}

#: A value as printed, with its table.
_Printed = tuple[float, Mapping[str, Any]]


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
        detail: include ablations, notebooks and costs.
    """
    num_hours = 40 if hours in ("all", FIRST_RELEASED_SESSIONS) else hours
    names = [column.score for column in columns]
    merged: dict[tuple[str, str, bool], dict[str, _Printed]] = {}
    for table in read_published()["tables"]:
        if table["hours"] not in ("any", num_hours) or (table.get("detail", False) and not detail):
            continue
        scores = scores_of(table)
        for method, *values in table["rows"]:
            owner = values.pop(0) if table["subject"] == "each" else table["subject"]
            if owner in ("mean", "any", subject):
                pairs = zip(scores, values, strict=True)
                printed = {name: (value, table) for name, value in pairs if value is not None and name in names}
                key = method, format_subject(owner), is_secondary(table)
                merged.setdefault(key, {}).update(printed)
    return [_row(*key, line, names) for key, line in merged.items() if line]


@cache
def read_published() -> dict[str, Any]:
    """Return the content of `published.json`: metrics, papers and tables."""
    return json.loads(Path(__file__).with_name("published.json").read_bytes())


def scores_of(table: Mapping[str, Any]) -> list[str]:
    """Return the names of a table's scores, retrieval by its direction instead of the paper's label."""
    return [_directions(table).get(label, label) for label in table["scores"]]


def unverified_scores(table: Mapping[str, Any]) -> frozenset[str]:
    """Return a table's retrieval scores whose direction is the paper's label, because its code is unknown."""
    if read_published()["papers"][table["paper"]]["retrieval"] == "published":
        return frozenset()
    return frozenset(name for label, name in _directions(table).items() if label in table["scores"])


def is_secondary(table: Mapping[str, Any]) -> bool:
    """Return whether the table is quoted from a paper that was not read."""
    return table["provenance"] == "S"


def format_subject(subject: int | str) -> str:
    """Format the subject of a row: "subject 1", the mean over subjects, or an empty string."""
    if subject == "mean":
        return f"mean of subjects {', '.join(map(str, SUBJECTS))}"
    return "" if subject == "any" else f"subject {subject}"


def _directions(table: Mapping[str, Any]) -> dict[str, str]:
    return DIRECTIONS[read_published()["papers"][table["paper"]]["retrieval"]]


def _score(name: str, value: float, table: Mapping[str, Any]) -> Score:
    metric = read_published()["metrics"][name]
    pool_size = metric.get("pool_size")
    return Score(
        name,
        value=round(value / 100, 6) if metric["unit"] == "percent" else value,
        chance=None if pool_size is None else 1 / pool_size,
        pool_size=pool_size,
        num_images=table.get("num_images", NUM_IMAGES),
        higher_is_better=not metric.get("lower_is_better", False),
    )


def _row(method: str, owner: str, secondary: bool, line: Mapping[str, _Printed], names: Sequence[str]) -> Row:
    """Return the row of one method and subject, with its source tables."""
    by_paper: dict[str, dict[str, None]] = {}
    for _, table in line.values():
        by_paper.setdefault(read_published()["papers"][table["paper"]]["source"], {})[table["table"]] = None
    notes = dict.fromkeys(table["note"] for _, table in line.values() if "note" in table)
    return Row(
        method,
        tuple(_score(name, *line[name]) for name in names if name in line),
        note=", ".join(filter(None, [owner, *notes])),
        kind="published",
        source="; ".join(", ".join([paper, *tables]) for paper, tables in by_paper.items()),
        secondary=secondary,
        unverified=frozenset(name for name, (_, table) in line.items() if name in unverified_scores(table)),
    )
