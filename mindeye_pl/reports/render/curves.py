"""Curves: training histories, and scores against an amount of data, with bands where it is known how sure they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mindeye_pl.reports.render.figures import Palette, as_svg, legend_above, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Up to so many points each one is marked, and its interval is a bar and not a band.
FEW_POINTS = 8


@dataclass(frozen=True)
class Series:
    """One line: its name and its points.

    Attributes:
        name: in the legend.
        x: places.
        y: values.
        low: lower ends of their 95 % intervals, with `high`; neither where intervals are not known.
        high: upper ends.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        lengths = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        assert len(lengths) == 1, f"{self.name}: {lengths} points"
        assert (self.low is None) == (self.high is None), f"{self.name}: one end without the other"


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
        log_x: whether the horizontal axis is logarithmic, with a number at each point: hours of data for instance.
    """

    title: str
    series: tuple[Series, ...]
    y_label: str = ""
    x_label: str = "epoch"
    references: Mapping[str, float] = field(default_factory=dict)
    share: bool = False
    log_x: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 4.6, 2.7

    def words(self) -> str:
        """The chart for those who cannot see it."""
        lines = [f"{series.name} from {self._point(series, 0)} to {self._point(series, -1)}" for series in self.series]
        lines += [f"{name} at {self._number(value)}" for name, value in self.references.items()]
        last = max(series.x[-1] for series in self.series)
        return f"{self.title}, to {self.x_label} {last:g}: {'; '.join(lines)}."

    def draw_on(self, figure: "Figure", palette: Palette) -> None:
        """Draws it on an empty figure."""
        axes = figure.subplots()
        for index, series in enumerate(self.series):
            turn, place = divmod(index, len(palette.series))
            _draw_series(axes, series, palette.series[place], ("-", "--", ":")[min(turn, 2)])
        for name, value in self.references.items():
            axes.axhline(value, color=palette.ink, linewidth=1, linestyle=(0, (3, 3)), label=name)
        axes.set_xlabel(self.x_label, color=palette.ink)
        axes.set_ylabel(self.y_label, color=palette.ink)
        self._scale_y(axes)
        self._scale_x(axes)
        plain_axes(axes, palette)
        if len(self.series) + len(self.references) > 1:
            legend_above(axes, palette)

    def _number(self, value: float) -> str:
        return f"{value:.1%}" if self.share else f"{value:.3g}"

    def _point(self, series: Series, index: int) -> str:
        ends = ""
        if series.low is not None and series.high is not None:
            ends = f" ({self._number(series.low[index])} to {self._number(series.high[index])})"
        return self._number(series.y[index]) + ends

    def _highest(self) -> float:
        return max(max(series.y if series.high is None else series.high) for series in self.series)

    def _lowest(self) -> float:
        return min(min(series.y if series.low is None else series.low) for series in self.series)

    def _spans_decades(self) -> bool:
        """Whether parts of a loss differ so much that the small ones would lie on the floor."""
        low = self._lowest()
        return len(self.series) > 1 and low > 0 and self._highest() / low > 20

    def _scale_y(self, axes: "Axes") -> None:
        from matplotlib.ticker import NullFormatter, PercentFormatter, StrMethodFormatter

        if self.share:
            axes.set_ylim(0, min(1.02, 1.15 * self._highest() + 0.02))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        elif self._spans_decades():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
            if self._lowest() >= 0:
                axes.set_ylim(bottom=0)

    def _scale_x(self, axes: "Axes") -> None:
        from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

        places = sorted({x for series in self.series for x in series.x})
        first, last = places[0], places[-1]
        if self.log_x:
            assert first > 0, "a logarithmic axis begins above zero"
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(places))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            room = 1.15 if last == first else (last / first) ** 0.04
            axes.set_xlim(first / room, last * room)
            return
        marked = any(len(series.x) <= FEW_POINTS and series.low is not None for series in self.series)
        room = 1.0 if last == first else (last - first) * 0.04 * marked  # else bars would lie on the edge
        axes.set_xlim(first - room, last + room)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _draw_series(axes: "Axes", series: Series, colour: str, dashes: str) -> None:
    few = len(series.x) <= FEW_POINTS
    marker = "o" if len(series.x) == 1 or (few and series.low is not None) else None
    axes.plot(series.x, series.y, dashes, color=colour, linewidth=1.6, marker=marker, markersize=4, label=series.name)
    if series.low is None or series.high is None:
        return
    if few:
        axes.vlines(series.x, series.low, series.high, color=colour, linewidth=1.6, alpha=0.55)
    else:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def in_words(panel: Panel) -> str:
    """The chart for those who cannot see it."""
    return panel.words()


def draw(panel: Panel) -> str:
    """The chart as an `<svg>` element of the page."""
    return as_svg(panel)


def training_panels(records: Sequence[Mapping[str, float]]) -> list[Panel]:
    """Charts of a training history: loss parts, losses, retrieval and FID on held-out images, learning rate.

    Args:
        records: one for each epoch, with `epoch`, `train/NAME`, `validation/NAME` and `learning_rate`.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    train = [name for name in names if name.startswith("train/")]
    validation = [name for name in names if name.startswith("validation/") and name != "validation/pool_size"]
    retrieval = [name for name in validation if name.endswith("_retrieval")]
    distances = [name for name in validation if name.endswith("/fid")]
    losses = [name for name in validation if name not in (*retrieval, *distances)]
    pools = [record["validation/pool_size"] for record in records if record.get("validation/pool_size")]
    panels = [
        Panel("Training loss and its parts", _series(records, train)),
        Panel("Loss on held-out images", _series(records, losses)),
        Panel(
            f"Retrieval among {pools[-1]:.0f} held-out images" if pools else "Retrieval among held-out images",
            _series(records, retrieval),
            references={"chance": 1 / pools[-1]} if pools else {},
            share=True,
        ),
        Panel("FID to held-out images, by CLIP", _series(records, distances)),
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
