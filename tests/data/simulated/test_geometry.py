"""Positions of simulated voxels."""

import nibabel
import numpy as np
import pytest
from scipy.ndimage import label

from mindeye_pl.data.layout.brain_mask import read_brain_mask
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_regions
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.simulated.geometry import VOXEL_SIZE, place_voxels
from tests.data.simulated.small_world import SMALL


def masks(num_voxels: int, parts: list[float]) -> dict[str, np.ndarray]:
    areas = np.random.default_rng(num_voxels).choice(5, num_voxels, p=parts)
    return {"nsd_general": np.ones(num_voxels, bool)} | {
        name: areas == number for number, name in enumerate(nsd.ROIS[1:])
    }


@pytest.mark.parametrize("num_voxels", [40, 300, 3000])
def test_regions_are_connected_and_follow_each_other(num_voxels: int) -> None:
    regions = masks(num_voxels, [0.1, 0.1, 0.1, 0.2, 0.5])
    positions = place_voxels(regions)
    assert len(np.unique(positions.indices, axis=0)) == num_voxels
    assert (positions.indices > 0).all()
    assert (positions.indices < np.array(positions.shape) - 1).all()  # empty voxels on all sides
    for name, mask in regions.items():
        inside = positions.volume(mask.astype(np.float32), 0)
        assert label(inside, np.ones((3, 3, 3)))[1] == 1, name
    fronts = [np.median(positions.coordinates[regions[name], 1]) for name in nsd.ROIS[1:]]
    assert fronts == sorted(fronts)


def test_a_world_without_a_region_is_placed() -> None:
    positions = place_voxels(masks(40, [0, 0, 0, 0.5, 0.5]))
    assert positions.num_voxels == 40


def test_every_subject_has_a_file(small: DataLayout) -> None:
    for subject, count in SMALL.voxel_counts.items():
        positions = read_brain_mask(small.brain_mask(subject), count)
        np.testing.assert_array_equal(positions.indices, place_voxels(read_regions(small, subject)).indices)
        assert nibabel.load(small.brain_mask(subject)).header.get_zooms() == pytest.approx([VOXEL_SIZE] * 3)
