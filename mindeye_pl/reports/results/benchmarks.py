"""Summaries of benchmarks, in the form of those of runs and sweeps, for the tables of the documentation."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.summary import DIRTY, MIXED, plain_column, provenance
from mindeye_pl.store.environment import environment


def benchmark_summary(
    name: str,
    command: str,
    columns: Iterable[Column],
    rows: Mapping[str, Any],
    *,
    differences: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    made_with: Iterable[dict[str, str]] = (),
) -> dict[str, Any]:
    """Return a summary; of code with changes it says so in the table.

    Args:
        name: of the benchmark.
        command: that makes the figures again.
        columns: of the table.
        rows: by title, `{score: {"value": ...}}` with an optional `interval`.
        differences: rows of differences between rows.
        seeds: of the draws.
        made_with: environments in which the measured files were made, beside the present one.
    """
    return {
        "experiment": name,
        "command": command,
        **provenance([environment(), *made_with], Path(name), (MIXED, DIRTY)),
        "simulated": True,
        "seeds": list(seeds),
        "columns": {column.score: plain_column(column) for column in columns},
        "rows": dict(rows),
        "differences": dict(differences or {}),
        "findings": [],
    }
