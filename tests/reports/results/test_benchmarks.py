"""Summaries of benchmarks become tables."""

from pathlib import Path

from mindeye_pl.commands.results_tables import read_summaries
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.reports.results.tables import fill_tables


def test_a_summary_becomes_a_table(tmp_path: Path) -> None:
    columns = [
        Column("Seconds", "seconds", form="number", higher_is_better=False),
        Column("Code", "code", form="integer"),
    ]
    rows = {"one − two": {"seconds": {"value": 1.25}, "code": {"value": 143}}}
    summary = benchmark_summary("timing", "python timing.py", columns, rows, seeds=[3])
    assert (summary["command"], summary["seeds"], summary["simulated"]) == ("python timing.py", [3], True)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    write_summary(tmp_path / "docs" / "results" / "timing.json", summary)
    page = "<!-- table: {from: timing, columns: [seconds, code], allow: [changes]} -->\n<!-- /table -->\n"
    filled = fill_tables(page, read_summaries(tmp_path))
    assert "| one − two | 1.250 | 143 |" in filled
