"""Positions of simulated voxels in a small volume: an ellipsoid in which each region is one slab.

The positions carry no signal: responses, noise and the order of the betas' columns do not depend on them.

Legend: V voxels, X, Y, Z sizes of the volume.
"""

from collections.abc import Mapping

import numpy as np

from mindeye_pl.data.layout.brain_mask import BrainMask
from mindeye_pl.data.nsd import constants as nsd

#: Size of a voxel in mm, as NSD's func1pt8mm.
VOXEL_SIZE = 1.8

#: Centre of the ellipsoid in mm and its axes' ratios (right, front, up): about the place of visual cortex in MNI space.
_CENTRE, _AXES = (0.0, -80.0, 2.0), (1.4, 1.0, 1.0)
#: Empty voxels around the ellipsoid.
_MARGIN = 2


def place_voxels(regions: Mapping[str, np.ndarray]) -> BrainMask:
    """Return positions of voxels by their region masks `(V,)` bool: V1 at the back, higher regions at the front.

    Each voxel is in one region besides `nsd_general`. A region's voxels lie in the order of their columns.
    """
    areas = np.stack([regions[name] for name in nsd.ROIS[1:]])  # (areas, V)
    assert (areas.sum(0) == 1).all(), "each voxel is in one region"
    columns = np.argsort(areas.argmax(0), kind="stable")  # from V1 to the higher regions
    axes = np.array(_AXES) / np.prod(_AXES) ** (1 / 3)
    radius = np.ceil(axes * (3 * len(columns) / (4 * np.pi)) ** (1 / 3)).astype(int) + 1 + _MARGIN
    x, y, z = (int(size) for size in 2 * radius + 1)
    grid = np.indices((x, y, z)).reshape(3, -1).T
    nearest = np.argsort((((grid - radius) / axes) ** 2).sum(1), kind="stable")[: len(columns)]
    filled = _snake(grid[nearest])
    indices = np.empty_like(filled)
    indices[columns] = filled
    affine = np.diag([VOXEL_SIZE] * 3 + [1.0])
    affine[:3, 3] = np.array(_CENTRE) - VOXEL_SIZE * radius
    return BrainMask(indices, (x, y, z), affine)


def _snake(positions: np.ndarray) -> np.ndarray:
    """Sort positions `(V, 3)` from back to front, up and down, right and left, so that neighbours in order touch."""
    x, y, z = positions.T
    return positions[np.lexsort([np.where((y + z) % 2, -x, x), np.where(y % 2, -z, z), y])]
