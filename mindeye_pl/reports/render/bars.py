"""Bar charts with intervals and ceilings, for example one score per ROI."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindeye_pl.metrics.statistics.score import Interval
from mindeye_pl.reports.render.figures import FAINT, INK, SERIES, legend_above

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Bars:
    """A bar chart.

    Attributes:
        labels: of the bars, for example ROIs.
        intervals: 95 % intervals, None if not computed.
        ceilings: noise ceilings, None if unknown.
    """

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[Interval | None] | None = None
    ceilings: Sequence[float | None] | None = None

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
        nothing = [None] * len(self.labels)
        columns = (self.labels, self.values, self.intervals or nothing, self.ceilings or nothing)
        for label, value, interval, ceiling in zip(*columns, strict=True):
            ends = f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
            best = f", ceiling {ceiling:.3g}" if ceiling is not None else ""
            parts.append(f"{label} {value:.3g}{ends}{best}")
        return f"{self.title}: {'; '.join(parts)}."

    def draw_on(self, figure: "Figure") -> None:
        """Draw the chart on an empty figure."""
        axes = figure.subplots()
        positions = range(len(self.labels))
        bars = axes.bar(positions, self.values, width=0.56, color=SERIES[0], alpha=0.55, label="score")
        for x, interval in zip(positions, self.intervals or (), strict=False):
            if interval is not None:
                axes.vlines(x, *interval, color=INK, linewidth=1.8)
        known = {x: best for x, best in zip(positions, self.ceilings or (), strict=False) if best is not None}
        if known:
            starts, ends = [x - 0.38 for x in known], [x + 0.38 for x in known]
            lines = axes.hlines(list(known.values()), starts, ends, color=SERIES[1], linewidth=2)
            lines.set_label("ceiling")
            legend_above(axes, [bars, lines])
        axes.set_xticks(list(positions), list(self.labels))
        axes.axhline(0, color=FAINT, linewidth=0.8)
