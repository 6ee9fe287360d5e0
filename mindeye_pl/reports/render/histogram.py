"""Histograms, for example of one value per voxel."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.reports.render.figures import INK, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 40


@dataclass(frozen=True)
class Histogram:
    """A histogram of finite values `(n,)`, at least one, with a dashed line at their median."""

    title: str
    values: np.ndarray
    x_label: str
    limits: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 4.6, 2.7

    def describe(self) -> str:
        """Return a text alternative of the chart."""
        low, middle, high = np.quantile(self.values, (0.05, 0.5, 0.95))
        numbers = f"median {middle:.3g}, 5 % below {low:.3g}, 5 % above {high:.3g}"
        return f"{self.title}: {self.x_label} of {len(self.values):,}, {numbers}."

    def draw_on(self, figure: "Figure") -> None:
        """Draw the chart on an empty figure."""
        axes, middle = figure.subplots(), float(np.median(self.values))
        axes.hist(self.values, bins=_BINS, range=self.limits, color=SERIES[0], alpha=0.55)
        axes.axvline(middle, color=INK, linewidth=1, linestyle=(0, (3, 3)))
        axes.set_ylim(top=1.15 * axes.get_ylim()[1])  # room for the words
        axes.annotate(
            f"median {middle:.2f}",
            (middle, 1),
            (4, -9),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=INK,
        )
        axes.set_xlabel(self.x_label)
