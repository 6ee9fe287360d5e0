"""NIfTI files and tables: what is read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.released.tables import numbers, read_lines, read_table
from mindeye_pl.data.released.volumes import read_masks, read_series, read_volume
from mindeye_pl.errors import UserError


def write_volume(path: Path, values: np.ndarray) -> Path:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def test_a_series_is_read_within_a_mask(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-999, 999, (4, 3, 2, 5)).astype(np.int16)
    mask = np.random.default_rng(1).random((4, 3, 2)) < 0.5
    for name in ("a.nii.gz", "a.nii"):
        series = read_series(write_volume(tmp_path / name, values), mask)
        np.testing.assert_array_equal(series, values[mask].T)
    with pytest.raises(UserError, match=r"does not fit the mask .*\(4, 3, 2, 5\).*\(3, 3, 2, 'trials'\)"):
        read_series(tmp_path / "a.nii", mask[:3])


def test_masks_are_true_above_zero(tmp_path: Path) -> None:
    values = np.array([-1, 0, 1, np.nan], np.float32).reshape(2, 2, 1)
    (mask,) = read_masks([write_volume(tmp_path / "a.nii.gz", values)])
    assert mask.ravel().tolist() == [False, False, True, False]
    other = write_volume(tmp_path / "b.nii.gz", np.ones((1, 2, 1), np.float32))
    with pytest.raises(UserError, match=r"b.nii.gz has another shape"):
        read_masks([tmp_path / "a.nii.gz", other])


def test_damaged_volumes_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    with pytest.raises(UserError, match="is missing"):
        read_volume(tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes(b"text")
    with pytest.raises(UserError, match="is truncated or no NIfTI file"):
        read_volume(tmp_path / "a.nii")
    path = write_volume(tmp_path / "b.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9, 4)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="is truncated"):
        read_series(path, np.ones((9, 9, 9), bool))
    with pytest.raises(UserError, match="is truncated"):
        read_volume(path)


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffa\tb\tc\n1\tx y\t\n\n2\tz\t3\n", "utf-8")
    table = read_table(path, ("b", "a"), "\t", optional=("c", "d"))
    assert table == {"b": ["x y", "z"], "a": ["1", "2"], "c": ["", "3"]}
    np.testing.assert_array_equal(numbers(path, "c", table["c"]), [np.nan, 3])
    with pytest.raises(UserError, match="column b holds no numbers"):
        numbers(path, "b", table["b"])
    with pytest.raises(UserError, match="has no column e"):
        read_table(path, ("e",), "\t")
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(UserError, match=r"row 3: another number of columns \(got: 1; expected: 2"):
        read_table(path, ("a",))
    with pytest.raises(UserError, match="is missing"):
        read_lines(tmp_path / "b.txt")
