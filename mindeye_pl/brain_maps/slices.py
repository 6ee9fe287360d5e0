"""Slices of a volume in three directions, with outlines of regions; drawn by nilearn.

The slices are those of the mask's own space. Nothing is registered, so the figure has no anatomy behind the values.

Legend: V voxels of one subject.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mindeye_pl.brain_maps.brain_map import BrainMap
from mindeye_pl.brain_maps.figure import COLOUR_MAP, MAPS, new_figure, outlined
from mindeye_pl.data.layout.brain_mask import BrainMask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SLICES = 6
#: Empty positions around the voxels.
_MARGIN = 2


def draw_slices(mask: BrainMask, map_: BrainMap, regions: Mapping[str, np.ndarray], *, note: str = "") -> "Figure":
    """Return a figure of six slices in each direction.

    Args:
        mask: positions of the voxels.
        map_: values, of which at least one is finite.
        regions: masks `(V,)` bool by name; those of some of the voxels are outlined.
        note: after the title, as "simulated".
    """
    from nilearn.plotting import plot_img

    mask, colours = _cropped(mask), outlined(regions)
    figure = new_figure(map_, colours, note=note)
    shown = np.isfinite(map_.values)
    # Zeros instead of NaN, which nilearn would replace with a warning for each; they are made transparent.
    display = plot_img(
        mask.image(np.where(shown, map_.values, 0), fill=0),
        bg_img=None,
        display_mode="mosaic",
        cut_coords=_cuts(mask.coordinates[shown]),
        figure=figure,
        axes=MAPS,
        cmap=COLOUR_MAP,
        vmin=0,
        vmax=map_.colour_limit,
        colorbar=False,
        black_bg=False,
        transparency=mask.image(shown.astype(np.float32), fill=0),
    )
    for name, colour in colours.items():
        inside = mask.image(regions[name].astype(np.float32), fill=0)
        display.add_contours(inside, levels=[0.5], colors=[colour], linewidths=1.4)
    return figure


def _cuts(coordinates: np.ndarray) -> dict[str, list[float]]:
    """Return the coordinates of slices by direction that pass through voxels `(v, 3)`, evenly over their number."""
    at = (np.arange(_SLICES) + 0.5) / _SLICES
    found = (np.unique(np.quantile(along, at, method="nearest")) for along in coordinates.T)
    return {direction: along.tolist() for direction, along in zip("xyz", found, strict=True)}


def _cropped(mask: BrainMask) -> BrainMask:
    """Return the same voxels in the smallest volume around them, with a margin."""
    low = mask.indices.min(0) - _MARGIN
    x, y, z = (int(size) for size in mask.indices.max(0) + _MARGIN + 1 - low)
    affine = mask.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    return BrainMask(mask.indices - low, (x, y, z), affine)
