"""The table of results: one structure, shown in the terminal and on the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mindeye_pl.metrics.score import Score

THIN_SPACE = "\u202f"


@dataclass(frozen=True)
class Column:
    """A metric that has a column.

    Attributes:
        title: its head.
        score: name of the `Score` that it shows.
        question: what the score answers, in plain words.
        form: "share" in per cent, or "number" with three digits.
    """

    title: str
    score: str
    question: str
    form: str = "share"


COLUMNS = (
    Column("Image retrieval", "image_retrieval", "Given a brain, which picture was seen?"),
    Column("Brain retrieval", "brain_retrieval", "Given a picture, which brain saw it?"),
)

PICTURE_COLUMNS = (
    Column("PixCorr", "pixcorr", "How alike are the pixels? Correlation, 1 is the same.", "number"),
    Column("SSIM", "ssim", "How alike is the structure of light and dark? 1 is the same.", "number"),
    Column("CLIP 2-way", "clip_two_way", "Is it more like the seen picture than like another one, to CLIP?"),
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
    """

    name: str
    scores: tuple[Score, ...] = ()
    command: str | None = None
    status: str = "not run yet"
    note: str = ""
    simulated: bool = False
    this_run: bool = False

    def score(self, name: str) -> Score | None:
        """The score of that name, if the row has it."""
        return next((score for score in self.scores if score.name == name), None)


def share(value: float) -> str:
    """A share in per cent; two digits after the point below one per cent, where chance lives."""
    digits = 2 if 0 < value < 0.00995 else 1
    return f"{100 * value:.{digits}f}{THIN_SPACE}%"


def shown(score: Score, column: Column) -> str:
    """The value in the form of its column."""
    return share(score.value) if column.form == "share" else f"{score.value:.3f}"


def interval(score: Score, column: Column = COLUMNS[0]) -> str:
    """The 95 % interval in the form of its column, without a unit, or nothing."""
    if score.interval is None:
        return ""
    return "–".join(f"{100 * end:.1f}" if column.form == "share" else f"{end:.3f}" for end in score.interval)


def chance(row: Row, columns: Sequence[Column] = COLUMNS) -> str:
    """Chance and pool size of a row; said for each column only where the columns differ."""
    scores = [score for column in columns if (score := row.score(column.score)) is not None]
    found = (f"{share(score.chance)} (1 of {score.pool_size})" for score in scores if score.chance is not None)
    return ", ".join(dict.fromkeys(found))


def title_of(title: str, rows: Sequence[Row]) -> str:
    """The table's title, marked where any row is simulated."""
    return f"{title} (simulated)" if any(row.simulated for row in rows) else title


def terminal_table(
    title: str, rows: Sequence[Row], columns: Sequence[Column] = COLUMNS, *, commands: bool = True
) -> RenderableType:
    """The table for the terminal, and under it the commands that fill empty rows, ready to be copied.

    Args:
        title: of the table.
        rows: its lines.
        columns: its metrics.
        commands: False leaves them out, where a table above has the same ones.
    """
    chances = {chance(row, columns) for row in rows if row.scores}
    one_chance = chances.pop() if len(chances) == 1 else None  # then the title has it, and names have its room
    asked = [column.title for column in columns if any(_has_chance(row, column) for row in rows)]
    whose = "" if len(asked) == len(columns) else f" of {', '.join(asked)}"
    heading = title_of(title, rows) + (f", chance{whose} {one_chance}" if one_chance else "")
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    if not one_chance:
        table.add_column("Chance", justify="right", style="dim", no_wrap=True)
    mixed = len({row.simulated for row in rows}) > 1  # else the title says it for all
    for row in rows:
        cells = [_terminal_cell(row.score(column.score), column) for column in columns]
        if not row.scores:
            cells[0] = Text(row.status, style="dim")
        name = Text(row.name, style="bold" if row.this_run else "")
        if mixed and row.simulated:
            name.append(" (simulated)", style="not bold dim")
        if row.note:
            name.append(f"\n{row.note}", style="not bold dim")
        table.add_row(name, *cells, *([] if one_chance else [chance(row, columns)]))
    lines = [
        Text.assemble("\n", (row.name, "dim"), f"\n{row.command}", no_wrap=True, overflow="ignore")
        for row in rows
        if commands and not row.scores and row.command
    ]
    return Group(table, *lines)


def _has_chance(row: Row, column: Column) -> bool:
    score = row.score(column.score)
    return score is not None and score.chance is not None


def _terminal_cell(score: Score | None, column: Column) -> Text:
    if score is None:
        return Text("")
    ends = interval(score, column)
    return Text.assemble((shown(score, column), "bold"), (f"  {ends}" if ends else "", "dim"))


def in_plain_words(score: Score) -> str:
    """One sentence that says what a retrieval score means.

    Args:
        score: an `image_retrieval` or a `brain_retrieval`.
    """
    assert score.chance is not None, score.name
    tasks = {
        "image_retrieval": "From brain activity alone, the picture that was seen",
        "brain_retrieval": "Given a picture, the brain activity that it caused",
    }
    return (
        f"{tasks[score.name.removesuffix('_full')]} is found among {score.pool_size} candidates {share(score.value)} "
        f"of the time; guessing would find it {share(score.chance)} of the time."
    )
