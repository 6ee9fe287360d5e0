"""Training curves: what an epoch's records say, drawn as SVG that takes its colours from the page."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours that matplotlib writes and the page replaces, so that light and dark are the page's matter.
INK, FAINT = "#0a0b0c", "#0a0b0d"
SERIES = tuple(f"#0a0b1{i}" for i in range(6))
CSS_COLOURS = {INK: "var(--muted)", FAINT: "var(--line)"} | {
    colour: f"var(--series-{i + 1})" for i, colour in enumerate(SERIES)
}


@dataclass(frozen=True)
class Series:
    """One line: its name and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: what is drawn.
        series: its lines.
        y_label: unit or quantity of the vertical axis, where the title does not say it.
        x_label: of the horizontal axis.
        references: dashed horizontal lines by name, chance for instance.
        share: whether values are shares, drawn in per cent from zero on.
    """

    title: str
    series: tuple[Series, ...]
    y_label: str = ""
    x_label: str = "epoch"
    references: Mapping[str, float] = field(default_factory=dict)
    share: bool = False


def training_panels(records: Sequence[Mapping[str, float]]) -> list[Panel]:
    """Charts of a training history: loss parts, losses and retrieval on held-out pictures, learning rate.

    Args:
        records: one for each epoch, with `epoch`, `train/NAME`, `validation/NAME` and `learning_rate`.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    train = [name for name in names if name.startswith("train/")]
    validation = [name for name in names if name.startswith("validation/") and name != "validation/pool_size"]
    retrieval = [name for name in validation if name.endswith("_retrieval")]
    losses = [name for name in validation if name not in retrieval]
    pools = [record["validation/pool_size"] for record in records if record.get("validation/pool_size")]
    panels = [
        Panel("Training loss and its parts", _series(records, train)),
        Panel("Loss on held-out pictures", _series(records, losses)),
        Panel(
            f"Retrieval among {pools[-1]:.0f} held-out pictures" if pools else "Retrieval among held-out pictures",
            _series(records, retrieval),
            references={"chance": 1 / pools[-1]} if pools else {},
            share=True,
        ),
        Panel("Learning rate", _series(records, [name for name in names if name == "learning_rate"])),
    ]
    return [panel for panel in panels if panel.series]


def _series(records: Sequence[Mapping[str, float]], names: Sequence[str]) -> tuple[Series, ...]:
    """One line for each name, through the epochs that have a finite value of it."""
    lines = []
    for name in names:
        points = [(record["epoch"] + 1, record[name]) for record in records if name in record]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if points:
            label = name.removeprefix("train/").removeprefix("validation/").replace("_", " ")
            lines.append(Series(label, [x for x, _ in points], [y for _, y in points]))
    return tuple(lines)


def in_words(panel: Panel) -> str:
    """The chart for those who cannot see it."""
    lines = [
        f"{series.name} from {_number(panel, series.y[0])} to {_number(panel, series.y[-1])}" for series in panel.series
    ]
    lines += [f"{name} at {_number(panel, value)}" for name, value in panel.references.items()]
    last = max(series.x[-1] for series in panel.series)
    return f"{panel.title}, to {panel.x_label} {last:g}: {'; '.join(lines)}."


def _number(panel: Panel, value: float) -> str:
    return f"{value:.1%}" if panel.share else f"{value:.3g}"


def draw(panel: Panel) -> str:
    """The chart as an `<svg>` element: text stays text, colours are the page's, no id clashes with another chart's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": in_words(panel), "font.size": 9.5, "text.parse_math": False}
    ):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        _draw_axes(figure.subplots(), panel)
        written = StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    return _for_the_page(written.getvalue())


def _draw_axes(axes: "Axes", panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

    for index, series in enumerate(panel.series):
        turn, place = divmod(index, len(SERIES))
        colour, dashes = SERIES[place], ("-", "--", ":")[min(turn, 2)]
        marker = "o" if len(series.x) == 1 else None
        axes.plot(
            series.x, series.y, dashes, color=colour, linewidth=1.6, marker=marker, markersize=4, label=series.name
        )
    for name, value in panel.references.items():
        axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (3, 3)), label=name)
    axes.set_xlabel(panel.x_label, color=INK)
    axes.set_ylabel(panel.y_label, color=INK)
    if panel.share:
        axes.set_ylim(0, min(1.02, 1.15 * max(max(series.y) for series in panel.series) + 0.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    elif _spans_decades(panel):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        if all(value >= 0 for series in panel.series for value in series.y):
            axes.set_ylim(bottom=0)
    first, last = min(series.x[0] for series in panel.series), max(series.x[-1] for series in panel.series)
    axes.set_xlim(first, last) if last > first else axes.set_xlim(first - 1, last + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(which="both", colors=INK, length=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    if len(panel.series) + len(panel.references) > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            frameon=False,
            labelcolor=INK,
            handlelength=1.2,
            borderaxespad=0.2,
            columnspacing=1.4,
        )


def _spans_decades(panel: Panel) -> bool:
    """Whether parts of a loss differ so much that the small ones would lie on the floor."""
    values = [value for series in panel.series for value in series.y]
    return len(panel.series) > 1 and min(values) > 0 and max(values) / min(values) > 20


def _for_the_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)  # the page decides, the view box keeps the shape
    svg = re.sub(r'(<g\b[^>]*?) id="[^"]*"', r"\1", svg)  # the same in every chart, and nothing refers to them
    for colour, variable in CSS_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.strip()
