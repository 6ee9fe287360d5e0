"""Bar charts with intervals and ceilings, for example one score per ROI."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindeye_pl.metrics.statistics.score import Interval
from mindeye_pl.reports.render.figures import Palette, legend_above, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Bars:
    """A bar chart.

    Attributes:
        title: title of the chart.
        labels: label of each bar, for example ROIs.
        values: height of each bar.
        intervals: 95 % interval of each bar, None if not computed.
        ceilings: noise ceiling of each bar, None if unknown.
        y_label: quantity on the vertical axis.
    """

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[Interval | None] | None = None
    ceilings: Sequence[float | None] | None = None
    y_label: str = ""

    def __post_init__(self) -> None:
        for values in (self.values, self.intervals, self.ceilings):
            assert values is None or len(values) == len(self.labels), f"{self.title}: {len(self.labels)} labels"

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches; wider for many bars."""
        return max(4.6, 0.6 * len(self.labels) + 1), 2.7

    def describe(self) -> str:
        """Return a text alternative of the chart."""
        parts = []
        for index, (label, value) in enumerate(zip(self.labels, self.values, strict=True)):
            interval = self.intervals[index] if self.intervals else None
            ceiling = self.ceilings[index] if self.ceilings else None
            ends = f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
            best = f", ceiling {ceiling:.3g}" if ceiling is not None else ""
            parts.append(f"{label} {value:.3g}{ends}{best}")
        return f"{self.title}: {'; '.join(parts)}."

    def draw_on(self, figure: "Figure", palette: Palette) -> None:
        """Draw the chart on an empty figure."""
        axes = figure.subplots()
        positions = range(len(self.labels))
        bars = axes.bar(positions, self.values, width=0.56, color=palette.series[0], alpha=0.55, label="score")
        for x, interval in zip(positions, self.intervals or (), strict=False):
            if interval is not None:
                axes.vlines(x, *interval, color=palette.ink, linewidth=1.8)
        known = [
            (x, ceiling) for x, ceiling in zip(positions, self.ceilings or (), strict=False) if ceiling is not None
        ]
        if known:
            centres, heights = zip(*known, strict=True)
            ends = [(x - 0.38, x + 0.38) for x in centres]
            lines = axes.hlines(heights, *zip(*ends, strict=True), color=palette.series[1], linewidth=2)
            lines.set_label("ceiling")
            legend_above(axes, palette, [bars, lines])
        axes.set_xticks(list(positions), list(self.labels))
        axes.set_ylabel(self.y_label, color=palette.ink)
        axes.axhline(0, color=palette.faint, linewidth=0.8)
        plain_axes(axes, palette)
