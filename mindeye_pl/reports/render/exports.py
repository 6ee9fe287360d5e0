"""Figures and tables as files for a paper: PNG and PDF; CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from mindeye_pl.reports.render.figures import Drawable, write_figure
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.section import slug
from mindeye_pl.reports.render.table import DIFFERENCES, KINDS, Column, Row, by_kind, interval, remarks, shown, title_of
from mindeye_pl.store.atomic import write_text

#: Columns of the CSV, one line for each score: what a data frame takes without further work.
FIELDS = (
    "row", "kind", "source", "simulated", "this_run", "metric", "value", "low", "high", "chance", "pool_size",
    "num_images", "higher_is_better", "against_this_run",
)  # fmt: skip

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\u202f": r"\,", "\u00a0": "~", "–": "--", "−": "$-$", "×": r"$\times$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$",
    "\n": " ",
}  # fmt: skip


def export_figures(folder: Path, figures: Mapping[str, Drawable]) -> list[Path]:
    """Writes each figure as PNG and PDF.

    Args:
        folder: made where it is missing.
        figures: by file name without ending.

    Returns:
        The files, in order.
    """
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in figures.items() for path in write_figure(figure, folder / name)]


def export_tables(folder: Path, tables: Sequence[Results]) -> list[Path]:
    """Writes each table as CSV, Markdown and LaTeX, named by its title.

    Args:
        folder: made where it is missing.
        tables: with rows.

    Returns:
        The files, in order.
    """
    if tables:
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        for ending, written in (("csv", as_csv), ("md", as_markdown), ("tex", as_latex)):
            path = folder / f"{slug(table.title)}.{ending}"
            write_text(path, written(table))
            paths.append(path)
    return paths


def as_csv(table: Results) -> str:
    """One line for each score of each row, with its interval, chance and pool size; shares are not in per cent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in _ordered(table):
        for score in row.scores:
            low, high = score.interval or (None, None)
            content = (
                row.name, row.kind, row.source, row.simulated, row.this_run, score.name, repr(float(score.value)), low,
                high, score.chance, score.pool_size, score.num_images, score.higher_is_better,
                row.differs.get(score.name),
            )  # fmt: skip
            writer.writerow(dict(zip(FIELDS, content, strict=True)))
    return text.getvalue()


def as_markdown(table: Results) -> str:
    """The table as people read it: a bold row for this run, intervals behind the scores."""
    lines = [f"**{_markdown(title_of(table.title, table.rows))}**", ""]
    heads = ["", *(column.head for column in table.columns)]
    lines += [_markdown_line(heads), _markdown_line(["---", *("---:" for _ in table.columns)])]
    for row in _ordered(table):
        strong = "**" if row.this_run else ""
        remark = "".join(f"; {text}" for text in remarks(row, table.rows))
        name = f"{strong}{_markdown(row.name)}{strong}{_markdown(remark)}"
        lines.append(_markdown_line([name, *(_markdown(_text(row, column)) for column in table.columns)]))
    return "\n".join([*lines, "", *_key(table)]).rstrip() + "\n"


def as_latex(table: Results) -> str:
    """A `tabular` in the manner of booktabs, for the paper to take in as it is; kinds of rows stand apart."""
    columns = table.columns
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{amssymb}",
        f"% {' '.join(title_of(table.title, table.rows).split())}",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
    ]
    lines += _latex_groups(columns)
    lines += [_latex_line(["", *(latex(column.head) for column in columns)]), "\\midrule"]
    groups = by_kind(table.rows)
    for place, (kind, rows) in enumerate(groups):
        if place:
            lines.append("\\addlinespace")
        if len(groups) > 1:
            lines.append(f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\textit{{{latex(KINDS[kind])}}}}} \\\\")
        for row in rows:
            name = f"\\textbf{{{latex(row.name)}}}" if row.this_run else latex(row.name)
            remark = latex("; ".join(remarks(row, table.rows)))
            said = f" {{\\footnotesize ({remark})}}" if remark else ""
            lines.append(_latex_line([name + said, *(latex(_text(row, column)) for column in columns)]))
    lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, *(f"% {text}" for text in _key(table))]) + "\n"


def latex(text: str) -> str:
    """Text with every character that LaTeX would read as a command written out."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line over the columns' heads that names their groups, with a rule under each."""
    if not any(column.group for column in columns):
        return []
    cells, rules, place = [""], [], 2
    for name, members in groupby(columns, key=lambda column: column.group):
        count = len(list(members))
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{latex(name)}}}")
        rules += [f"\\cmidrule(lr){{{place}-{place + count - 1}}}"] if name else []
        place += count
    return [_latex_line(cells), " ".join(rules)]


def _markdown(text: str) -> str:
    for letter in "\\|*_<`":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split("\n"))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ordered(table: Results) -> list[Row]:
    return [row for _, rows in by_kind(table.rows) for row in rows]


def _text(row: Row, column: Column) -> str:
    """A score as text, "63.4 % (58.4–68.4)"; nothing where there is none."""
    score = row.score(column.score)
    if score is None:
        return ""
    mark = f"{DIFFERENCES[row.differs[column.score]][0]} " if column.score in row.differs else ""
    ends = interval(score, column)
    return f"{mark}{shown(score, column)}{f' ({ends})' if ends else ''}"


def _key(table: Results) -> list[str]:
    """What the signs mean, and what is missing."""
    found = {difference for row in table.rows for difference in row.differs.values()}
    signs = [f"{sign} {words}." for name, (sign, words) in DIFFERENCES.items() if name in found]
    has_intervals = any(score.interval for row in table.rows for score in row.scores)
    return [*(["In brackets: 95 % intervals over images."] if has_intervals else []), *signs, *table.needs]
