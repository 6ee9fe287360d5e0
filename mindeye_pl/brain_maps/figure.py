"""Common parts of the figures: size, colours, colour bar, legend of the regions, PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.brain_maps.brain_map import BrainMap
from mindeye_pl.store.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_MAP = "viridis"
#: Colours of outlines, apart from each other on the colour map and on white.
OUTLINES = ("#d62728", "#ff7f0e", "#e377c2", "#1fb5d6", "#4d4d4d", "#8c564b")

_SIZE, _DOTS_PER_INCH = (11.0, 5.2), 120
#: Left, bottom, width and height of the maps, as fractions of the figure; the rest is for title, legend and colour bar.
MAPS = (0.01, 0.03, 0.87, 0.88)
_BAR = (0.91, 0.2, 0.018, 0.6)


def outlined(regions: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the colour of each region that is outlined: masks `(V,)` bool that are neither empty nor of all voxels."""
    names = [name for name, mask in regions.items() if mask.any() and not mask.all()]
    return {name: OUTLINES[number % len(OUTLINES)] for number, name in enumerate(names)}


def new_figure(map_: BrainMap, colours: Mapping[str, str], *, note: str = "") -> "Figure":
    """Return a figure with title, colour bar and legend, and room for the maps.

    Args:
        map_: whose title, unit and limits are written.
        colours: of the outlined regions, by name.
        note: after the title, as "simulated".
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, facecolor="white")
    figure.suptitle(f"{map_.title} ({note})" if note else map_.title, x=0.02, ha="left", fontsize=13)
    colour = ScalarMappable(Normalize(0, map_.colour_limit), COLOUR_MAP)
    lowest, highest = np.nanmin(map_.values) < 0, np.nanmax(map_.values) > map_.colour_limit
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(colour, cax=figure.add_axes(_BAR), extend=ends[bool(lowest), bool(highest)])
    bar.set_label(map_.unit, fontsize=10)
    bar.ax.tick_params(labelsize=9)
    lines = [Line2D([], [], color=colour, linewidth=2) for colour in colours.values()]
    if lines:
        names = [name.replace("_", " ") for name in colours]
        figure.legend(lines, names, loc="upper right", bbox_to_anchor=(0.99, 1.0), ncols=len(lines), frameon=False)
    return figure


def write_png(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
