"""BOLD5000's files, as arrays of regions and as NIfTI files, are prepared and read back equal."""

from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.bold5000.files import Bold5000
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_regions
from mindeye_pl.data.released.preparation import prepare
from mindeye_pl.errors import UserError
from tests.data.bold5000 import small_bold5000 as small
from tests.data.released.read_back import assert_prepared

pytest.importorskip("nibabel")


@pytest.mark.parametrize("as_arrays", [True, False])
def test_it_is_read_back(tmp_path: Path, as_arrays: bool) -> None:
    small.write_bold5000(tmp_path / "files", as_arrays=as_arrays)
    preparation = Bold5000(tmp_path / "files", small.SUBJECTS, 32)
    assert all(path.is_file() for path in preparation.files())
    facts = prepare(preparation, tmp_path / "made")
    assert facts["subj04"]["trials"] == 168
    assert facts["subj04"]["test images"] == small.NUM_REPEATED
    for subject in small.SUBJECTS:
        known = small.known(subject, as_arrays=as_arrays)
        assert_prepared(tmp_path / "made", subject, known)
        regions = read_regions(DataLayout(tmp_path / "made"), subject)
        assert sorted(regions) == sorted(small.NAMES)
        masks = small.masks(subject)
        halves = [mask for name, mask in masks.items() if name[2:] in ("LO", "LOC")]
        inside = np.logical_or.reduce(list(masks.values()))
        if as_arrays:
            assert regions["LOC"].sum() == sum(mask.sum() for mask in halves)
        else:
            np.testing.assert_array_equal(regions["LOC"], (halves[0] | halves[1])[inside])


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    small.write_bold5000(folder, as_arrays=True)
    names = folder / "CSI4_imgnames.txt"
    lines = names.read_text().splitlines()
    names.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"CSI4_imgnames.txt has other trials .*167.*multiple of 84"):
        prepare(Bold5000(folder, [4], 32), tmp_path / "made")
    names.write_text("\n".join(lines[:84]))
    with pytest.raises(UserError, match=r"another number of trials .*168.*84, as in CSI4_imgnames"):
        prepare(Bold5000(folder, [4], 32), tmp_path / "again")
    with pytest.raises(UserError, match="has no regions of subject CSI1"):
        Bold5000(folder, [1], 32).files()
