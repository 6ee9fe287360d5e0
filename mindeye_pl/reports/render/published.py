"""Published results on the real NSD, each with the paper and table that it stands in.

Numbers lie in `published.json` as their tables print them, percentages as percentages. Only numbers that were read in
the paper or in its authors' notebooks are there (provenance "P"), and means that were computed from those ("C").
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.table import Column, Row

#: Subjects that completed all sessions; "mean" is over them.
SUBJECTS = (1, 2, 5, 7)
#: Images of the test set; single tables say where theirs were fewer.
NUM_IMAGES = 1000
_FILE = "published.json"


def published_rows(
    subject: int | None, hours: float | Literal["all"], columns: Sequence[Column], *, detail: bool = False
) -> list[Row]:
    """Rows of other people's results, for the table of a run on real NSD data.

    They do not belong beside simulated data; where such rows share a table with them, the table says that they cannot
    be compared.

    Args:
        subject: whose rows come, with those of the mean over subjects, which stand for methods that printed no more;
            None for the mean alone.
        hours: of the subject's data; "all" means 40. Papers printed 1 and 40, and 10 in ablations.
        columns: rows without any of them are left out.
        detail: whether ablations and notebooks come too.

    Returns:
        Rows of kind "published" with their sources, none where nothing was published for these hours.
    """
    wanted_hours = 40 if hours == "all" else hours
    names = [column.score for column in columns]
    merged: dict[tuple[str, str], dict[str, tuple[Score, str, Mapping[str, Any]]]] = {}
    for table in _content()["tables"]:
        if table["hours"] not in ("any", wanted_hours) or (table.get("detail", False) and not detail):
            continue
        for method, whose, scores in _rows(table):
            if whose in ("mean", "any", subject):
                line = merged.setdefault((method, _whose(whose)), {})
                line |= {score.name: (score, table["paper"], table) for score in scores if score.name in names}
    return [_row(method, whose, line, names) for (method, whose), line in merged.items() if line]


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(__file__).parent / _FILE).read_text())
    return content


def _rows(table: Mapping[str, Any]) -> list[tuple[str, int | str, list[Score]]]:
    """Method, subject and scores of each line of a table."""
    found = []
    for method, *values in table["rows"]:
        whose = values.pop(0) if table["subject"] == "each" else table["subject"]
        pairs = zip(table["scores"], values, strict=True)
        num_images = table.get("num_images", NUM_IMAGES)
        found.append((method, whose, [_score(name, value, num_images) for name, value in pairs if value is not None]))
    return found


def _score(name: str, value: float, num_images: int) -> Score:
    metric = _content()["metrics"][name]
    pool_size = metric.get("pool_size")
    return Score(
        name,
        value=round(value / 100, 6) if metric["unit"] == "percent" else value,
        chance=None if pool_size is None else 1 / pool_size,
        pool_size=pool_size,
        num_images=num_images,
        higher_is_better=not metric.get("lower_is_better", False),
    )


def _whose(subject: int | str) -> str:
    if subject == "mean":
        return f"mean of subjects {', '.join(map(str, SUBJECTS))}"
    return "" if subject == "any" else f"subject {subject}"


def _row(
    method: str, whose: str, line: Mapping[str, tuple[Score, str, Mapping[str, Any]]], names: Sequence[str]
) -> Row:
    """The scores of one method and subject, with the tables that they are from."""
    by_paper: dict[str, dict[str, None]] = {}
    for _, paper, table in line.values():
        by_paper.setdefault(_content()["papers"][paper], {})[table["table"]] = None
    notes = dict.fromkeys(table["note"] for _, _, table in line.values() if "note" in table)
    return Row(
        method,
        tuple(line[name][0] for name in names if name in line),
        note=", ".join(filter(None, [whose, *notes])),
        kind="published",
        source="; ".join(", ".join([paper, *tables]) for paper, tables in by_paper.items()),
    )
