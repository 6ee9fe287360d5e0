"""Table of results, for the terminal and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mindeye_pl.metrics.statistics.score import Score

THIN_SPACE = "\u202f"

Kind = Literal["null", "baseline", "published", "model", "ceiling"]
#: Kinds of rows in the table's order, with their group titles.
KINDS: dict[Kind, str] = {
    "null": "Null rows: scores without reading the brain",
    "baseline": "Baselines",
    "published": "Published, real NSD",
    "model": "Models",
    "ceiling": "Ceilings: upper limits given the noise",
}
#: Remark on published rows in a table with simulated rows.
NOT_COMPARABLE = "published, real NSD; not comparable with simulated"

Difference = Literal["better", "worse"]
#: Marks of scores that differ significantly from this run's: sign and legend.
DIFFERENCES: dict[Difference, tuple[str, str]] = {
    "better": ("▲", "significantly better than this run"),
    "worse": ("▼", "significantly worse than this run"),
}
#: Maximum number of score columns of a table in the terminal.
MAX_TERMINAL_COLUMNS = 3


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: column header.
        score: name of its `Score`.
        question: the question that the score answers, in plain words.
        form: "percent", "number" with three decimals, or "integer".
        higher_is_better: direction of the score; the header marks columns where lower is better.
        group: title above a group of columns, for example "Low level".
        limits: limits of the scale on which scores are drawn; None for the range of the column's scores.
    """

    title: str
    score: str
    question: str = ""
    form: Literal["percent", "number", "integer"] = "percent"
    higher_is_better: bool = True
    group: str = ""
    limits: tuple[float, float] | None = (0.0, 1.0)

    @property
    def head(self) -> str:
        """Title, with an arrow if lower is better."""
        return self.title if self.higher_is_better else f"{self.title} ↓"


COLUMNS = (
    Column("Image retrieval", "image_retrieval", "Given a brain, which image was seen?"),
    Column("Brain retrieval", "brain_retrieval", "Given an image, which brain saw it?"),
)

IMAGE_COLUMNS = (
    Column("PixCorr", "pixcorr", "How similar are the pixels? Correlation, 1 means identical.", "number"),
    Column("SSIM", "ssim", "How similar is the structure of light and dark? 1 means identical.", "number"),
    Column("CLIP 2-way", "clip_two_way", "Is it more similar to the seen image than to another one, by CLIP?"),
)


@dataclass(frozen=True)
class Row:
    """A row of the table: scores, or the command that computes them.

    Attributes:
        name: what was scored, for example "fine-tuned, 1 hour".
        scores: empty if it was never run.
        command: shown in an empty row.
        status: reason why the row is empty.
        note: short explanation, for example the source of an external number.
        simulated: the data are simulated; marked in the title and beside the name.
        this_run: marks the row of the reported run.
        kind: its group, one of `KINDS`.
        source: paper and table of a published row.
        differs: score names with a significant difference from this run, from
            `comparison.find_significant_differences`.
    """

    name: str
    scores: tuple[Score, ...] = ()
    command: str | None = None
    status: str = "not run yet"
    note: str = ""
    simulated: bool = False
    this_run: bool = False
    kind: Kind = "model"
    source: str = ""
    differs: Mapping[str, Difference] = field(default_factory=dict)

    def score(self, name: str) -> Score | None:
        """Return the score of that name, None if missing."""
        return next((score for score in self.scores if score.name == name), None)


def format_percent(value: float) -> str:
    """Format a fraction in percent, with two decimals below one percent, the range of chance levels."""
    digits = 2 if 0 < value < 0.00995 else 1
    return f"{100 * value:.{digits}f}{THIN_SPACE}%"


def format_score(score: Score, column: Column) -> str:
    """Format a score in the form of its column."""
    return format_value(score.value, column)


def format_value(value: float, column: Column) -> str:
    """Format a value in the form of its column."""
    if column.form == "percent":
        return format_percent(value)
    return f"{value:.0f}" if column.form == "integer" else f"{value:.3f}"


def format_interval(score: Score, column: Column = COLUMNS[0]) -> str:
    """Format the 95 % interval in the form of its column, without a unit; empty if missing."""
    if score.interval is None:
        return ""
    return "–".join(
        f"{100 * end:.1f}" if column.form == "percent" else format_value(end, column) for end in score.interval
    )


def format_chance(row: Row, columns: Sequence[Column] = COLUMNS) -> str:
    """Format chance and pool size of a row, only once if the columns have the same."""
    scores = [score for column in columns if (score := row.score(column.score)) is not None]
    found = (f"{format_percent(score.chance)} (1 of {score.pool_size})" for score in scores if score.chance is not None)
    return ", ".join(dict.fromkeys(found))


def full_title(title: str, rows: Sequence[Row]) -> str:
    """Return the table's title, marked if any row is simulated."""
    return f"{title} (simulated)" if any(row.simulated for row in rows) else title


def group_by_kind(rows: Sequence[Row]) -> list[tuple[Kind, list[Row]]]:
    """Group the rows by kind in the order of `KINDS`, keeping the given order within groups."""
    order = list(KINDS)
    ordered = sorted(rows, key=lambda row: order.index(row.kind))
    return [(kind, list(group)) for kind, group in groupby(ordered, key=lambda row: row.kind)]


def row_remarks(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return the remarks below a row's name: note, source, and incomparability with simulated rows."""
    beside_simulated = row.kind == "published" and any(other.simulated for other in rows)
    return [text for text in (row.note, row.source, NOT_COMPARABLE if beside_simulated else "") if text]


def split_columns(columns: Sequence[Column], max_columns: int = MAX_TERMINAL_COLUMNS) -> list[list[Column]]:
    """Split the columns into tables of limited width, keeping groups together if they fit."""
    if len(columns) <= max_columns:
        return [list(columns)]
    found: list[list[Column]] = []
    for group, members in groupby(columns, key=lambda column: column.group):
        listed = list(members)
        for start in range(0, len(listed), max_columns):
            part = listed[start : start + max_columns]
            together = found and not group and not found[-1][0].group and len(found[-1]) + len(part) <= max_columns
            found[-1:] = [found[-1] + part] if together else [*found[-1:], part]
    return found


def terminal_table(
    title: str,
    rows: Sequence[Row],
    columns: Sequence[Column] = COLUMNS,
    *,
    commands: bool = True,
    needs: Sequence[str] = (),
) -> RenderableType:
    """Return the table for the terminal, followed by the commands that fill empty rows, ready to copy.

    Many columns are split into several tables.

    Args:
        title: of the table.
        rows: its rows.
        columns: its metrics.
        commands: False omits the commands, if a table above already lists them.
        needs: one line per metric with missing weights: "AlexNet(2) needs FILE: COMMAND".
    """
    tables = [_terminal_block(title, rows, block) for block in split_columns(columns)]
    lines = [
        Text.assemble("\n", (row.name, "dim"), f"\n{row.command}", no_wrap=True, overflow="ignore")
        for row in rows
        if commands and not row.scores and row.command
    ]
    marks = {difference for row in rows for difference in row.differs.values()}
    key = [Text(f"{sign} {words}", style="dim") for name, (sign, words) in DIFFERENCES.items() if name in marks]
    missing = [Text(line, no_wrap=True, overflow="ignore", style="dim") for line in needs]
    separated = [part for table in tables for part in (table, Text(""))][:-1]
    return Group(*separated, *key, *([Text("")] if missing else []), *missing, *lines)


def _terminal_block(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Return one table with at most `MAX_TERMINAL_COLUMNS` scores."""
    chances = {format_chance(row, columns) for row in rows if row.scores}
    common_chance = chances.pop() if len(chances) == 1 else None  # shown in the title instead of a column
    with_chance = [column.title for column in columns if any(_has_chance(row, column) for row in rows)]
    owners = "" if len(with_chance) == len(columns) else f" of {', '.join(with_chance)}"
    heading = full_title(title, rows) + (f", chance{owners} {common_chance}" if common_chance else "")
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")  # long names may differ only at their ends
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    if common_chance is None:
        table.add_column("Chance", justify="right", style="dim", no_wrap=True)
    mixed = len({row.simulated for row in rows}) > 1  # otherwise the title is enough
    groups = group_by_kind(rows)
    for kind, members in groups:
        if len(groups) > 1:
            table.add_row(Text(KINDS[kind].partition(":")[0], style="dim italic"))
        for row in members:
            cells = [_terminal_cell(row, column) for column in columns]
            if not row.scores:
                cells[0] = Text(row.status, style="dim")
            name = Text(row.name, style="bold" if row.this_run else "")
            if mixed and row.simulated:
                name.append(" (simulated)", style="not bold dim")
            for remark in row_remarks(row, rows):
                name.append(f"\n{remark}", style="not bold dim")
            table.add_row(name, *cells, *([format_chance(row, columns)] if common_chance is None else []))
    return table


def _has_chance(row: Row, column: Column) -> bool:
    score = row.score(column.score)
    return score is not None and score.chance is not None


def _terminal_cell(row: Row, column: Column) -> Text:
    score = row.score(column.score)
    if score is None:
        return Text("")
    ends = format_interval(score, column)
    mark = DIFFERENCES[row.differs[column.score]][0] + " " if column.score in row.differs else ""
    return Text.assemble(mark, (format_score(score, column), "bold"), (f"  {ends}" if ends else "", "dim"))


def explain_retrieval(score: Score) -> str:
    """Return one sentence that explains a retrieval score.

    Args:
        score: `image_retrieval` or `brain_retrieval`.
    """
    assert score.chance is not None, score.name
    tasks = {
        "image_retrieval": "From brain activity alone, the image that was seen",
        "brain_retrieval": "Given an image, the brain activity that it caused",
    }
    return (
        f"{tasks[score.name.removesuffix('_full')]} is found among {score.pool_size} candidates "
        f"{format_percent(score.value)} of the time; guessing would find it {format_percent(score.chance)} of the time."
    )
