"""Slices of a volume side by side, one value per voxel.

Legend: X, Y, Z sizes of the volume, from left to right, back to front and bottom to top of the head.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.reports.render.figures import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SLICES, _COLUMNS = 24, 8


@dataclass(frozen=True)
class Mosaic:
    """Horizontal slices of a volume `(X, Y, Z)` float, NaN outside of the voxels, of which some have values.

    Slices without values are left out; where there are many, equally spaced ones are shown, from bottom to top.
    """

    title: str
    volume: np.ndarray
    label: str
    limits: tuple[float, float]

    @property
    def slices(self) -> list[int]:
        """Indices of the shown slices."""
        filled = np.flatnonzero(np.isfinite(self.volume).any((0, 1)))
        step = max(1, math.ceil(len(filled) / _MOST_SLICES))
        return filled[::step].tolist()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 8.0, 0.55 + 1.05 * math.ceil(len(self.slices) / _COLUMNS)

    def describe(self) -> str:
        """Return a text alternative of the figure."""
        values = self.volume[np.isfinite(self.volume)]
        return f"{self.title}: {self.label} of {len(values):,} voxels in {len(self.slices)} slices."

    def draw_on(self, figure: "Figure") -> None:
        """Draw the slices on an empty figure."""
        inside = np.isfinite(self.volume)
        (left, right), (back, front) = (np.flatnonzero(inside.any(axes))[[0, -1]] for axes in ((1, 2), (0, 2)))
        rows = math.ceil(len(self.slices) / _COLUMNS)
        grid = figure.subplots(rows, _COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, index in zip(grid.flat, self.slices, strict=False):
            values = self.volume[left : right + 1, back : front + 1, index].T  # (Y, X), back at the bottom
            axes.imshow(
                values,
                origin="lower",
                vmin=self.limits[0],
                vmax=self.limits[1],
                cmap="viridis",
                interpolation="nearest",
            )
            axes.set_title(f"z {index}", fontsize=7, color=INK)
        figure.colorbar(grid.flat[0].images[0], ax=grid.ravel().tolist(), label=self.label, shrink=0.9, aspect=14)
