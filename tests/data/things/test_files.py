"""THINGS-fMRI's tables are prepared and read back equal."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.released.preparation import prepare
from mindeye_pl.data.things.files import Things
from mindeye_pl.errors import UserError
from tests.data.released.read_back import assert_prepared
from tests.data.things import small_things as small


@pytest.mark.parametrize("at_folder", ["", "betas_csv"])
def test_it_is_read_back(tmp_path: Path, at_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindeye_pl.data.things.files._VOXELS_PER_BLOCK", 7)
    small.write_things(tmp_path / "files")
    preparation = Things(tmp_path / "files" / at_folder, small.SUBJECTS, 32)
    assert all(path.is_file() for path in preparation.files())
    facts = prepare(preparation, tmp_path / "made")
    assert facts["subj01"]["training images"] == small.NUM_TRAINED
    layout = DataLayout(tmp_path / "made")
    for subject in small.SUBJECTS:
        assert_prepared(tmp_path / "made", subject, small.known(subject))
        kept, masks = small.kept(subject), small.regions(subject)
        found = read_regions(layout, subject)
        assert sorted(found) == ["IT", "LO1_prf", "V1", "lFFA"]
        np.testing.assert_array_equal(found["LO1_prf"], masks["LO1 (prf)"][kept])
        ratio = np.sqrt(0.4 / 0.6 / 12)
        expected = np.where(np.arange(small.NUM_VOXELS) % 2 == 1, ratio, 0)[kept]
        np.testing.assert_allclose(read_ncsnr(layout, subject), expected, rtol=1e-5)


def test_other_regions_can_be_kept(tmp_path: Path) -> None:
    small.write_things(tmp_path / "files")
    prepare(Things(tmp_path / "files", [2], 32, ["glasser-V1"]), tmp_path / "made")
    found = read_regions(DataLayout(tmp_path / "made"), 2)
    assert {name: len(mask) for name, mask in found.items()} == {"glasser_V1": small.regions(2)["glasser-V1"].sum()}
    with pytest.raises(UserError, match="has no column nowhere"):
        prepare(Things(tmp_path / "files", [2], 32, ["nowhere"]), tmp_path / "again")


def test_responses_of_another_shape_are_refused(tmp_path: Path) -> None:
    small.write_things(tmp_path / "files")
    path = tmp_path / "files/betas_csv/sub-01_ResponseData.h5"
    with h5py.File(path, "r+") as file:
        del file["ResponseData/block0_values"]
        file["ResponseData/block0_values"] = np.zeros((3, 4))
    with pytest.raises(UserError, match=r"no responses that fit its tables .*\(3, 4\)"):
        prepare(Things(tmp_path / "files", [1], 32), tmp_path / "made")
