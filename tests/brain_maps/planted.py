"""A block of voxels with two regions, and a map on it."""

import numpy as np

from mindeye_pl.brain_maps.brain_map import BrainMap
from mindeye_pl.data.layout.brain_mask import BrainMask

SHAPE = (14, 12, 10)
AFFINE = np.array([[1.8, 0, 0, -12], [0, 1.8, 0, -90], [0, 0, 1.8, -9], [0, 0, 0, 1.0]])


def block() -> BrainMask:
    """All positions but those of the border, in an order of their own."""
    inside = np.argwhere(np.ones(np.array(SHAPE) - 4, bool)) + 2
    return BrainMask(np.random.default_rng(0).permutation(inside), SHAPE, AFFINE)


def halves(mask: BrainMask) -> dict[str, np.ndarray]:
    """All voxels, their left and their right half, and a region without voxels."""
    left = mask.coordinates[:, 0] < mask.coordinates[:, 0].mean()
    return {"all": np.ones(len(left), bool), "left_half": left, "right_half": ~left, "none": np.zeros(len(left), bool)}


def map_of(values: np.ndarray) -> BrainMap:
    return BrainMap("planted", "Planted map", "mm", "A test.", values.astype(np.float32))
