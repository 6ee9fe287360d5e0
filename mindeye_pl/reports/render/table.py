"""Table of results, for the terminal and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
#: Remark on published rows whose numbers were quoted elsewhere.
SECONDARY = "secondary source: quoted, the paper was not read"
#: Sign and legend of published retrieval scores whose code is unknown.
UNVERIFIED = ("†", "label of the paper; direction unknown")

Difference = Literal["better", "worse"]
#: Marks of scores that differ significantly from this run's: sign and legend.
DIFFERENCES: dict[Difference, tuple[str, str]] = {
    "better": ("▲", "significantly better than this run"),
    "worse": ("▼", "significantly worse than this run"),
}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: column header.
        score: name of its `Score`.
        question: the question that the score answers, in plain words.
        form: numbers have three decimals.
        higher_is_better: the header marks columns where lower is better.
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

#: Note of tables with these columns.
BY_DIRECTION = (
    "Retrieval is named by its direction, not by the papers' labels: image retrieval ranks images for each brain, "
    "brain retrieval ranks brains for each image."
)

IMAGE_COLUMNS = (
    Column("PixCorr", "pixcorr", "How similar are the pixels? Correlation, 1 means identical.", "number"),
    Column("SSIM", "ssim", "How similar is the structure of light and dark? 1 means identical.", "number"),
    Column("CLIP 2-way", "clip_two_way", "Is it more similar to the seen image than to another one, by CLIP?"),
)


VALIDATION_COLUMNS = (
    Column("Validation image retrieval", "validation_image_retrieval", "Given a brain, which held-out image was seen?"),
    Column("Validation brain retrieval", "validation_brain_retrieval", "Given a held-out image, which brain saw it?"),
    Column("Validation loss", "validation_loss", "The loss on held-out images.", "number", False, limits=None),
)

COST_COLUMNS = (
    Column("Trained parameters", "trained_parameters", "How many weights learn?", "integer", False, limits=None),
    Column(
        "Minutes",
        "minutes",
        "How long do the steps between pretraining and evaluation take?",
        "number",
        False,
        limits=None,
    ),
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
        source: paper and table of a published row.
        differs: score names with a significant difference from this run.
        secondary: the published numbers were quoted elsewhere, and not read in the paper.
        unverified: names of published retrieval scores whose direction is the paper's label, because its code is
            unknown.
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
    secondary: bool = False
    unverified: frozenset[str] = frozenset()

    def score(self, name: str) -> Score | None:
        """Return the score of that name, None if missing."""
        return next((score for score in self.scores if score.name == name), None)

    def mark(self, column: Column) -> tuple[str, str] | None:
        """Return sign and legend of a significant difference or an unknown direction, None if there is neither."""
        if column.score in self.unverified:
            return UNVERIFIED
        return DIFFERENCES[self.differs[column.score]] if column.score in self.differs else None


def format_percent(value: float) -> str:
    """Format a fraction in percent, with two decimals below one percent, the range of chance levels."""
    digits = 2 if 0 < value < 0.00995 else 1
    return f"{100 * value:.{digits}f}{THIN_SPACE}%"


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


@dataclass(frozen=True)
class Results:
    """A table of scores.

    Attributes:
        title: for example "Retrieval".
        rows: its rows.
        columns: its metrics.
        note: sentence below the table.
        needs: one line per metric with missing weights: "AlexNet(2) needs FILE: COMMAND".
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column] = COLUMNS
    note: str = ""
    needs: Sequence[str] = ()

    @property
    def full_title(self) -> str:
        """The title, marked if any row is simulated."""
        return f"{self.title} (simulated)" if any(row.simulated for row in self.rows) else self.title

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows grouped by kind in the order of `KINDS`, with the groups' titles."""
        groups = [(title, [row for row in self.rows if row.kind == kind]) for kind, title in KINDS.items()]
        return [(title, rows) for title, rows in groups if rows]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Sign and meaning of the marks that the rows contain."""
        found = {mark for row in self.rows for column in self.columns if (mark := row.mark(column)) is not None}
        return [mark for mark in (*DIFFERENCES.values(), UNVERIFIED) if mark in found]

    def remarks(self, row: Row) -> list[str]:
        """Return the remarks below a row's name: note, source, provenance, incomparability with simulated rows."""
        beside_simulated = row.kind == "published" and any(other.simulated for other in self.rows)
        last = (SECONDARY if row.secondary else "", NOT_COMPARABLE if beside_simulated else "")
        return [text for text in (row.note, row.source, *last) if text]


def terminal_table(results: Results, *, commands: bool = True) -> RenderableType:
    """Return the table for the terminal, and below it the commands that fill empty rows, unless they are omitted."""
    rows, columns = results.rows, results.columns
    chances = [{text for row in rows if (text := format_chance(row, [column]))} for column in columns]
    each = dict.fromkeys(text for texts in chances for text in texts)
    common_chance = ", ".join(each) if all(len(texts) <= 1 for texts in chances) else None  # then in the title
    with_chance = [column.title for column in columns if any(format_chance(row, [column]) for row in rows)]
    owners = "" if len(with_chance) == len(columns) else f" of {', '.join(with_chance)}"
    heading = results.full_title + (f", chance{owners} {common_chance}" if common_chance else "")
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")  # long names may differ only at their ends
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    if common_chance is None:
        table.add_column("Chance", justify="right", style="dim", no_wrap=True)
    mixed = len({row.simulated for row in rows}) > 1  # otherwise the title is enough
    for kind, members in results.groups:
        if len(results.groups) > 1:
            table.add_row(Text(kind.partition(":")[0], style="dim italic"))
        for row in members:
            name = Text(row.name, style="bold" if row.this_run else "")
            if mixed and row.simulated:
                name.append(" (simulated)", style="not bold dim")
            for remark in results.remarks(row):
                name.append(f"\n{remark}", style="not bold dim")
            cells = [_terminal_cell(row, column) for column in columns]
            if not row.scores:
                cells[0] = Text(row.status, style="dim")
            table.add_row(name, *cells, *([format_chance(row, columns)] if common_chance is None else []))
    key = [Text(f"{sign} {words}", style="dim") for sign, words in results.legend]
    missing = [Text(line, no_wrap=True, overflow="ignore", style="dim") for line in results.needs]
    lines = [
        Text.assemble("\n", (row.name, "dim"), f"\n{row.command}", no_wrap=True, overflow="ignore")
        for row in rows
        if commands and not row.scores and row.command
    ]
    return Group(table, *key, *([Text("")] if missing else []), *missing, *lines)


def _terminal_cell(row: Row, column: Column) -> Text:
    score = row.score(column.score)
    if score is None:
        return Text("")
    mark, ends = row.mark(column), format_interval(score, column)
    sign = f"{mark[0]} " if mark else ""
    return Text.assemble(sign, (format_value(score.value, column), "bold"), (f"  {ends}" if ends else "", "dim"))


def explain_retrieval(score: Score) -> str:
    """Return one sentence that explains a score of image or brain retrieval."""
    assert score.chance is not None, score.name
    tasks = {
        "image_retrieval": "From brain activity alone, the image that was seen",
        "brain_retrieval": "Given an image, the brain activity that it caused",
    }
    return (
        f"{tasks[score.name.removesuffix('_full')]} is found among {score.pool_size} candidates "
        f"{format_percent(score.value)} of the time; guessing would find it {format_percent(score.chance)} of the time."
    )
