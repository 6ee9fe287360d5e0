"""Line charts with interval bands: training histories, and scores against a swept parameter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

from mindeye_pl.reports.render.figures import INK, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of points that are marked individually, with interval bars instead of a band.
MAX_MARKED_POINTS = 8

#: Dashes of the reference lines, in points on and off.
_DASHES = ((3, 3), (1, 2), (6, 2), (6, 2, 1, 2))


@dataclass(frozen=True)
class Series:
    """One line of a chart, with the ends of its 95 % intervals, None if unknown."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        lengths = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        assert len(lengths) == 1, f"{self.name}: {lengths} points"
        assert (self.low is None) == (self.high is None), f"{self.name}: low and high must be given together"


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        references: dashed horizontal lines by name, for example chance.
        is_percent: values are fractions, drawn in percent from zero.
        log_x: logarithmic horizontal axis with a tick at each point, for example for hours of data.
        x_names: names of the points 0, 1, ... of the horizontal axis; empty for an axis of numbers.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = "epoch"
    references: Mapping[str, float] = field(default_factory=dict)
    is_percent: bool = False
    log_x: bool = False
    x_names: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 4.6, 2.7

    def describe(self) -> str:
        """Return a text alternative of the chart."""
        lines = [f"{series.name} from {self._point(series, 0)} to {self._point(series, -1)}" for series in self.series]
        lines += [f"{name} at {self._number(value)}" for name, value in self.references.items()]
        last = max(series.x[-1] for series in self.series)
        end = self.x_names[int(last)] if self.x_names else f"{last:g}"
        return f"{self.title}, to {self.x_label} {end}: {'; '.join(lines)}."

    def draw_on(self, figure: "Figure") -> None:
        """Draw the chart on an empty figure."""
        axes = figure.subplots()
        for series in self.series:
            _draw_series(axes, series)
        for (name, value), dashes in zip(self.references.items(), cycle(_DASHES)):
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, dashes), label=name)
        axes.set_xlabel(self.x_label)
        self._scale_y(axes)
        self._scale_x(axes)
        if len(self.series) + len(self.references) > 1:
            legend_above(axes)

    def _number(self, value: float) -> str:
        return f"{value:.1%}" if self.is_percent else f"{value:.3g}"

    def _point(self, series: Series, index: int) -> str:
        ends = ""
        if series.low is not None and series.high is not None:
            ends = f" ({self._number(series.low[index])} to {self._number(series.high[index])})"
        return self._number(series.y[index]) + ends

    def _scale_y(self, axes: "Axes") -> None:
        from matplotlib.ticker import NullFormatter, PercentFormatter, StrMethodFormatter

        low = min(min(series.y if series.low is None else series.low) for series in self.series)
        high = max(max(series.y if series.high is None else series.high) for series in self.series)
        if self.is_percent:
            axes.set_ylim(0, min(1.02, 1.15 * high + 0.02))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        elif len(self.series) > 1 and low > 0 and high / low > 20:  # small loss terms are invisible on a linear axis
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
            if low >= 0:
                axes.set_ylim(bottom=0)

    def _scale_x(self, axes: "Axes") -> None:
        from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

        ticks = sorted({x for series in self.series for x in series.x})
        first, last = ticks[0], ticks[-1]
        if self.log_x:
            assert first > 0, "a logarithmic axis needs positive values"
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            margin = 1.15 if last == first else (last / first) ** 0.04
            axes.set_xlim(first / margin, last * margin)
            return
        marked = any(len(series.x) <= MAX_MARKED_POINTS and series.low is not None for series in self.series)
        margin = 1.0 if last == first else (last - first) * 0.04 * marked  # keeps interval bars off the edge
        axes.set_xlim(first - margin, last + margin)
        if self.x_names:
            axes.set_xticks(range(len(self.x_names)), self.x_names)
            return
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _draw_series(axes: "Axes", series: Series) -> None:
    few = len(series.x) <= MAX_MARKED_POINTS
    marker = "o" if len(series.x) == 1 or (few and series.low is not None) else None
    (line,) = axes.plot(series.x, series.y, linewidth=1.6, marker=marker, markersize=4, label=series.name)
    if series.low is None or series.high is None:
        return
    if few:
        axes.vlines(series.x, series.low, series.high, color=line.get_color(), linewidth=1.6, alpha=0.55)
    else:
        axes.fill_between(series.x, series.low, series.high, color=line.get_color(), alpha=0.18, linewidth=0)


def training_panels(records: Sequence[Mapping[str, float]]) -> list[Panel]:
    """Return the charts of a training history: loss terms, losses, retrieval and FID on held-out images, learning rate.

    There is one record per epoch, with `epoch`, `train/NAME`, `validation/NAME` and `learning_rate`.
    """
    names = list(dict.fromkeys(name for record in records for name in record if name != "validation/pool_size"))
    retrieval = [name for name in names if name.startswith("validation/") and name.endswith("_retrieval")]
    distances = [name for name in names if name.startswith("validation/") and name.endswith("/fid")]
    train = [name for name in names if name.startswith("train/")]
    losses = [name for name in names if name.startswith("validation/") and name not in (*retrieval, *distances)]
    pools = [record["validation/pool_size"] for record in records if record.get("validation/pool_size")]
    panels = [
        Panel("Training loss and its terms", _series(records, train)),
        Panel("Loss on held-out images", _series(records, losses)),
        Panel(
            f"Retrieval among {pools[-1]:.0f} held-out images" if pools else "Retrieval among held-out images",
            _series(records, retrieval),
            references={"chance": 1 / pools[-1]} if pools else {},
            is_percent=True,
        ),
        Panel("FID to held-out images, by CLIP", _series(records, distances)),
        Panel("Learning rate", _series(records, ["learning_rate"])),
    ]
    return [panel for panel in panels if panel.series]


def _series(records: Sequence[Mapping[str, float]], names: Sequence[str]) -> tuple[Series, ...]:
    """Return one line per name, through the epochs with a finite value."""
    lines = []
    for name in names:
        points = [(record["epoch"] + 1, record[name]) for record in records if name in record]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if points:
            label = name.removeprefix("train/").removeprefix("validation/").replace("_", " ")
            lines.append(Series(label, [x for x, _ in points], [y for _, y in points]))
    return tuple(lines)
