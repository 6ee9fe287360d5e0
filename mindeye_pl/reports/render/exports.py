"""Export of figures as PNG and PDF, and of tables as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from mindeye_pl.reports.render.figures import Drawable, write_figure
from mindeye_pl.reports.render.results import Results
from mindeye_pl.reports.render.section import slug
from mindeye_pl.reports.render.table import (
    DIFFERENCES,
    KINDS,
    Column,
    Row,
    format_interval,
    format_score,
    full_title,
    group_by_kind,
    row_remarks,
)
from mindeye_pl.store.atomic import write_text

#: Columns of the CSV, one line per score, in the format of a data frame.
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
    """Write each figure as PNG and PDF.

    Args:
        folder: created if missing.
        figures: by file name without suffix.

    Returns:
        Paths of the files, in order.
    """
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in figures.items() for path in write_figure(figure, folder / name)]


def export_tables(folder: Path, tables: Sequence[Results]) -> list[Path]:
    """Write each table as CSV, Markdown and LaTeX, named by its title.

    Args:
        folder: created if missing.
        tables: tables with rows.

    Returns:
        Paths of the files, in order.
    """
    if tables:
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        for suffix, convert in (("csv", as_csv), ("md", as_markdown), ("tex", as_latex)):
            path = folder / f"{slug(table.title)}.{suffix}"
            write_text(path, convert(table))
            paths.append(path)
    return paths


def as_csv(table: Results) -> str:
    """Return one CSV line per score, with interval, chance and pool size; fractions are not in percent."""
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
    """Return the table in Markdown, with this run in bold and intervals after the scores."""
    lines = [f"**{_markdown(full_title(table.title, table.rows))}**", ""]
    heads = ["", *(column.head for column in table.columns)]
    lines += [_markdown_line(heads), _markdown_line(["---", *("---:" for _ in table.columns)])]
    for row in _ordered(table):
        strong = "**" if row.this_run else ""
        remark = "".join(f"; {text}" for text in row_remarks(row, table.rows))
        name = f"{strong}{_markdown(row.name)}{strong}{_markdown(remark)}"
        lines.append(_markdown_line([name, *(_markdown(_text(row, column)) for column in table.columns)]))
    return "\n".join([*lines, "", *_key(table)]).rstrip() + "\n"


def as_latex(table: Results) -> str:
    """Return a booktabs `tabular` for a paper, with space between the kinds of rows."""
    columns = table.columns
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{amssymb}",
        f"% {' '.join(full_title(table.title, table.rows).split())}",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
    ]
    lines += _latex_groups(columns)
    lines += [_latex_line(["", *(latex(column.head) for column in columns)]), "\\midrule"]
    groups = group_by_kind(table.rows)
    for index, (kind, rows) in enumerate(groups):
        if index:
            lines.append("\\addlinespace")
        if len(groups) > 1:
            lines.append(f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\textit{{{latex(KINDS[kind])}}}}} \\\\")
        for row in rows:
            name = f"\\textbf{{{latex(row.name)}}}" if row.this_run else latex(row.name)
            remark = latex("; ".join(row_remarks(row, table.rows)))
            suffix = f" {{\\footnotesize ({remark})}}" if remark else ""
            lines.append(_latex_line([name + suffix, *(latex(_text(row, column)) for column in columns)]))
    lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, *(f"% {text}" for text in _key(table))]) + "\n"


def latex(text: str) -> str:
    """Escape all LaTeX special characters."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """Return the header line with the names of the column groups, and a rule below each."""
    if not any(column.group for column in columns):
        return []
    cells, rules, first = [""], [], 2
    for name, members in groupby(columns, key=lambda column: column.group):
        count = len(list(members))
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{latex(name)}}}")
        rules += [f"\\cmidrule(lr){{{first}-{first + count - 1}}}"] if name else []
        first += count
    return [_latex_line(cells), " ".join(rules)]


def _markdown(text: str) -> str:
    for letter in "\\|*_<`":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split("\n"))


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ordered(table: Results) -> list[Row]:
    return [row for _, rows in group_by_kind(table.rows) for row in rows]


def _text(row: Row, column: Column) -> str:
    """Return a score as text, for example "63.4 % (58.4–68.4)"; empty if missing."""
    score = row.score(column.score)
    if score is None:
        return ""
    mark = f"{DIFFERENCES[row.differs[column.score]][0]} " if column.score in row.differs else ""
    ends = format_interval(score, column)
    return f"{mark}{format_score(score, column)}{f' ({ends})' if ends else ''}"


def _key(table: Results) -> list[str]:
    """Return the legend of the signs, and the missing weights."""
    found = {difference for row in table.rows for difference in row.differs.values()}
    signs = [f"{sign} {words}." for name, (sign, words) in DIFFERENCES.items() if name in found]
    has_intervals = any(score.interval for row in table.rows for score in row.scores)
    return [*(["In brackets: 95 % intervals over images."] if has_intervals else []), *signs, *table.needs]
