from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError


def write_masks(layout: DataLayout, masks: dict[str, np.ndarray], subject: int = 1) -> None:
    with h5py.File(layout.region_masks, "w") as file:
        for name, mask in masks.items():
            file[f"subj0{subject}/{name}"] = mask


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random(7) < 0.5 for name in reversed((*nsd.ROIS, "midventral"))}


def test_region_masks_have_the_published_order(
    small_nsd: DataLayout, masks: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_masks(small_nsd, masks | {"V1": masks["V1"].astype(np.float32)})
    monkeypatch.chdir(tmp_path)  # a folder without such a file
    regions = read_regions(small_nsd, 1, nsd.ROIS)
    assert tuple(regions) == nsd.ROIS
    assert list(read_regions(small_nsd, 1)) == sorted(masks), "all there are"
    for name, mask in regions.items():
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, masks[name])
    assert list(read_regions(small_nsd, 1, names=["midventral"])) == ["midventral"]


def test_regions_and_ncsnr_of_a_simulated_subject(tiny_nsd: Path) -> None:
    layout = DataLayout(tiny_nsd)
    num_voxels = betas_shape(layout, 1)[1]
    regions, ncsnr = read_regions(layout, 1), read_ncsnr(layout, 1)
    assert regions["nsd_general"].all()
    parts = np.stack([regions[name] for name in nsd.ROIS[1:]])
    np.testing.assert_array_equal(parts.sum(0), np.ones(num_voxels))  # each voxel is in one area
    assert ncsnr is not None
    assert ncsnr.shape == (num_voxels,)
    assert ncsnr.dtype == np.float32
    assert (ncsnr > 0).all()


def test_read_ncsnr(small_nsd: DataLayout) -> None:
    assert read_ncsnr(small_nsd, 1) is None
    ratio = np.array([0.5, np.nan, np.inf, 0, 1, 2, 3])
    with h5py.File(small_nsd.ncsnr, "w") as file:
        file["subj01"] = ratio
        file["subj02"] = np.array([0.1, 0.1, -1, 0.1, 0.1])
    np.testing.assert_array_equal(read_ncsnr(small_nsd, 1), np.float32([0.5, 0, np.inf, 0, 1, 2, 3]))
    with pytest.raises(UserError, match=r"negative ratio .*got: -1\.0"):
        read_ncsnr(small_nsd, 2)


def test_masks_that_do_not_fit_the_betas_are_refused(small_nsd: DataLayout, masks: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"brain_region_masks\.hdf5 is missing"):
        read_regions(small_nsd, 1)
    write_masks(small_nsd, masks)
    with pytest.raises(UserError, match=r"no dataset subj02/V1 .*got: \['subj01'\]"):
        read_regions(small_nsd, 2, names=["V1"])
    with pytest.raises(UserError, match=r"no group subj02 .*got: \['subj01'\]"):
        read_regions(small_nsd, 2)
    with pytest.raises(UserError, match="no dataset subj01/V5"):
        read_regions(small_nsd, 1, names=["V5"])
    write_masks(small_nsd, masks | {"V2": np.ones(6, bool)})
    with pytest.raises(
        UserError, match=r"region V2 of subject 1 does not fit the betas \(got: \(6,\); expected: \(7,\)"
    ):
        read_regions(small_nsd, 1)
    write_masks(small_nsd, masks | {"V3": np.arange(7)})
    with pytest.raises(UserError, match=r"region V3 is not a mask \(got: \[0, 1, 2, 3, 4\]"):
        read_regions(small_nsd, 1)
    with h5py.File(small_nsd.ncsnr, "w") as file:
        file["subj01"] = np.ones((7, 1))
        file["subj02/deep"] = np.ones(5)
    with pytest.raises(UserError, match=r"ncsnr of subject 1 does not fit the betas \(got: \(7, 1\)"):
        read_ncsnr(small_nsd, 1)
    with pytest.raises(UserError, match=r"subj02 is not a dataset \(got: Group"):
        read_ncsnr(small_nsd, 2)
