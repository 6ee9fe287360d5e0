"""Export of figures as PNG and PDF, and of tables as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mindeye_pl.reports.render.figures import Drawable, write_figure
from mindeye_pl.reports.render.results import group_spans
from mindeye_pl.reports.render.section import fill, slug
from mindeye_pl.reports.render.table import Column, Results, Row, format_interval, format_value
from mindeye_pl.store.atomic import write_text

#: Columns of the CSV, one line per score, in the format of a data frame.
FIELDS = (
    "row", "kind", "source", "simulated", "this_run", "metric", "value", "low", "high", "chance", "pool_size",
    "num_images", "higher_is_better", "against_this_run", "secondary", "direction_unknown",
)  # fmt: skip

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\u202f": r"\,", "\u00a0": "~", "–": "--", "−": "$-$", "×": r"$\times$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$",
    "†": r"\dag{}",
    "\n": " ",
})  # fmt: skip
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\|*_<`"} | {"\n": " "})


def export_figures(folder: Path, figures: Mapping[str, Drawable]) -> list[Path]:
    """Write each figure, by file name without suffix, as PNG and PDF; return the paths in order."""
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in figures.items() for path in write_figure(figure, folder / name)]


def export_tables(folder: Path, tables: Sequence[Results]) -> list[Path]:
    """Write each table, which must have rows, as CSV, Markdown and LaTeX; return the paths in order."""
    if tables:
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        for suffix, convert in (("csv", as_csv), ("md", as_markdown), ("tex", as_latex)):
            paths.append(folder / f"{slug(table.title)}.{suffix}")
            write_text(paths[-1], convert(table))
    return paths


def as_csv(table: Results) -> str:
    """Return one CSV line per score, with interval, chance and pool size; fractions are not in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in (row for _, rows in table.groups for row in rows):
        for score in row.scores:
            writer.writerow([
                _cell(row.name), row.kind, _cell(row.source), row.simulated, row.this_run,
                score.name, repr(float(score.value)), *(score.interval or (None, None)), score.chance,
                score.pool_size, score.num_images,
                score.higher_is_better, row.differs.get(score.name), row.secondary, score.name in row.unverified,
            ])  # fmt: skip
    return text.getvalue()


def _cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def as_markdown(table: Results) -> str:
    """Return the table in Markdown, with this run in bold and intervals after the scores."""
    return _filled("table.md", table, lambda text: text.translate(_MARKDOWN))


def as_latex(table: Results) -> str:
    """Return a booktabs `tabular` for a paper, with space between the kinds of rows."""
    return _filled("table.tex", table, latex)


def latex(text: str) -> str:
    """Escape all LaTeX special characters."""
    return text.translate(_LATEX)


def _filled(template: str, table: Results, escape: Callable[[str], str]) -> str:
    text = fill(
        template,
        table=table,
        has_intervals=any(score.interval for row in table.rows for score in row.scores),
        spans=group_spans(table.columns),
        score=lambda row, column: escape(_score(row, column)),
        escape=escape,
    )
    return text.rstrip() + "\n"


def _score(row: Row, column: Column) -> str:
    """Return a score as text, for example "63.4 % (58.4–68.4)"; empty if missing."""
    score = row.score(column.score)
    if score is None:
        return ""
    mark, ends = row.mark(column), format_interval(score, column)
    return f"{f'{mark[0]} ' if mark else ''}{format_value(score.value, column)}{f' ({ends})' if ends else ''}"
