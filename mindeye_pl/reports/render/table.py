"""The table of results: one structure, shown in the terminal and on the page."""

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
#: The kinds of rows in the table's order, with the words over each group of them.
KINDS: dict[Kind, str] = {
    "null": "Null rows: what scores without reading the brain",
    "baseline": "Baselines",
    "published": "Published, real NSD",
    "model": "Models",
    "ceiling": "Ceilings: no brain could do better",
}
#: Stands at published rows that share a table with simulated ones.
NOT_COMPARABLE = "published, real NSD; not comparable with simulated"

Difference = Literal["better", "worse"]
#: Marks of a score that differs from this run's beyond doubt: a sign and its words.
DIFFERENCES: dict[Difference, tuple[str, str]] = {
    "better": ("▲", "better than this run, beyond doubt"),
    "worse": ("▼", "worse than this run, beyond doubt"),
}
#: Columns of one table in the terminal, which has room for no more.
TERMINAL_COLUMNS = 4


@dataclass(frozen=True)
class Column:
    """A metric that has a column.

    Attributes:
        title: its head.
        score: name of the `Score` that it shows.
        question: what the score answers, in plain words.
        form: "percent", "number" with three decimals, or "integer".
        higher_is_better: the direction; the head says so where lower is better.
        group: columns of one group stand under its name, "Low level" for instance, where there are many.
        limits: between which values the score's line is drawn; None for those of the column.
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
        """The title, with an arrow where lower is better."""
        return self.title if self.higher_is_better else f"{self.title} ↓"


COLUMNS = (
    Column("Image retrieval", "image_retrieval", "Given a brain, which image was seen?"),
    Column("Brain retrieval", "brain_retrieval", "Given an image, which brain saw it?"),
)

IMAGE_COLUMNS = (
    Column("PixCorr", "pixcorr", "How alike are the pixels? Correlation, 1 is the same.", "number"),
    Column("SSIM", "ssim", "How alike is the structure of light and dark? 1 is the same.", "number"),
    Column("CLIP 2-way", "clip_two_way", "Is it more like the seen image than like another one, to CLIP?"),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: scores, or what would bring them.

    Attributes:
        name: what was scored, "fine-tuned, 1 hour" for instance.
        scores: empty where it was never run.
        command: fills the row where it is empty.
        status: why it is empty; "not run yet" where nothing else is said.
        note: a few words of explanation, the source of a number from elsewhere among them.
        simulated: whether the data are; it is then said in the title, and beside the name.
        this_run: marks the row that the report is about.
        kind: its group, one of `KINDS`.
        source: paper and table of a published row.
        differs: by score name, whether this row is better or worse than this run beyond doubt
            (`comparison.beyond_doubt` says so from paired scores); names of scores that do not differ are left out.
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
        """The score of that name, if the row has it."""
        return next((score for score in self.scores if score.name == name), None)


def share(value: float) -> str:
    """A share in per cent; two digits after the point below one per cent, where chance lives."""
    digits = 2 if 0 < value < 0.00995 else 1
    return f"{100 * value:.{digits}f}{THIN_SPACE}%"


def shown(score: Score, column: Column) -> str:
    """The value in the form of its column."""
    return in_form(score.value, column)


def in_form(value: float, column: Column) -> str:
    """A value in the form of its column."""
    if column.form == "percent":
        return share(value)
    return f"{value:.0f}" if column.form == "integer" else f"{value:.3f}"


def interval(score: Score, column: Column = COLUMNS[0]) -> str:
    """The 95 % interval in the form of its column, without a unit, or nothing."""
    if score.interval is None:
        return ""
    return "–".join(f"{100 * end:.1f}" if column.form == "percent" else in_form(end, column) for end in score.interval)


def chance(row: Row, columns: Sequence[Column] = COLUMNS) -> str:
    """Chance and pool size of a row; said for each column only where the columns differ."""
    scores = [score for column in columns if (score := row.score(column.score)) is not None]
    found = (f"{share(score.chance)} (1 of {score.pool_size})" for score in scores if score.chance is not None)
    return ", ".join(dict.fromkeys(found))


def title_of(title: str, rows: Sequence[Row]) -> str:
    """The table's title, marked where any row is simulated."""
    return f"{title} (simulated)" if any(row.simulated for row in rows) else title


def by_kind(rows: Sequence[Row]) -> list[tuple[Kind, list[Row]]]:
    """The rows in groups: null rows, baselines, published rows, models, ceilings; each group in the order given."""
    order = list(KINDS)
    ordered = sorted(rows, key=lambda row: order.index(row.kind))
    return [(kind, list(group)) for kind, group in groupby(ordered, key=lambda row: row.kind)]


def remarks(row: Row, rows: Sequence[Row]) -> list[str]:
    """What is said under a row's name: its note, its source, and whether it cannot be compared with the others."""
    beside_simulated = row.kind == "published" and any(other.simulated for other in rows)
    return [text for text in (row.note, row.source, NOT_COMPARABLE if beside_simulated else "") if text]


def blocks(columns: Sequence[Column], most: int = TERMINAL_COLUMNS) -> list[list[Column]]:
    """The columns in tables of at most so many, columns of one group together where they fit."""
    if len(columns) <= most:
        return [list(columns)]
    found: list[list[Column]] = []
    for group, members in groupby(columns, key=lambda column: column.group):
        listed = list(members)
        for start in range(0, len(listed), most):
            part = listed[start : start + most]
            together = found and not group and not found[-1][0].group and len(found[-1]) + len(part) <= most
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
    """The table for the terminal, and under it the commands that fill empty rows, ready to be copied.

    Many columns become several tables, one below the other.

    Args:
        title: of the table.
        rows: its lines.
        columns: its metrics.
        commands: False leaves them out, where a table above has the same ones.
        needs: a line for each metric that lacks its weights: "AlexNet(2) needs FILE: COMMAND".
    """
    tables = [_terminal_block(title, rows, block) for block in blocks(columns)]
    lines = [
        Text.assemble("\n", (row.name, "dim"), f"\n{row.command}", no_wrap=True, overflow="ignore")
        for row in rows
        if commands and not row.scores and row.command
    ]
    marks = {difference for row in rows for difference in row.differs.values()}
    key = [Text(f"{sign} {words}", style="dim") for name, (sign, words) in DIFFERENCES.items() if name in marks]
    missing = [Text(line, no_wrap=True, overflow="ignore", style="dim") for line in needs]
    parted = [part for table in tables for part in (table, Text(""))][:-1]
    return Group(*parted, *key, *([Text("")] if missing else []), *missing, *lines)


def _terminal_block(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """One table of not too many columns."""
    chances = {chance(row, columns) for row in rows if row.scores}
    one_chance = chances.pop() if len(chances) == 1 else None  # then the title has it, and names have its room
    asked = [column.title for column in columns if any(_has_chance(row, column) for row in rows)]
    whose = "" if len(asked) == len(columns) else f" of {', '.join(asked)}"
    heading = title_of(title, rows) + (f", chance{whose} {one_chance}" if one_chance else "")
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")  # what makes two long names differ may stand at their ends
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    if one_chance is None:
        table.add_column("Chance", justify="right", style="dim", no_wrap=True)
    mixed = len({row.simulated for row in rows}) > 1  # else the title says it for all
    groups = by_kind(rows)
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
            for remark in remarks(row, rows):
                name.append(f"\n{remark}", style="not bold dim")
            table.add_row(name, *cells, *([chance(row, columns)] if one_chance is None else []))
    return table


def _has_chance(row: Row, column: Column) -> bool:
    score = row.score(column.score)
    return score is not None and score.chance is not None


def _terminal_cell(row: Row, column: Column) -> Text:
    score = row.score(column.score)
    if score is None:
        return Text("")
    ends = interval(score, column)
    mark = DIFFERENCES[row.differs[column.score]][0] + " " if column.score in row.differs else ""
    return Text.assemble(mark, (shown(score, column), "bold"), (f"  {ends}" if ends else "", "dim"))


def in_plain_words(score: Score) -> str:
    """One sentence that says what a retrieval score means.

    Args:
        score: an `image_retrieval` or a `brain_retrieval`.
    """
    assert score.chance is not None, score.name
    tasks = {
        "image_retrieval": "From brain activity alone, the image that was seen",
        "brain_retrieval": "Given an image, the brain activity that it caused",
    }
    return (
        f"{tasks[score.name.removesuffix('_full')]} is found among {score.pool_size} candidates {share(score.value)} "
        f"of the time; guessing would find it {share(score.chance)} of the time."
    )
