"""Positions of voxels, their NIfTI files, and values on the way to a volume and back."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from mindeye_pl.data.layout.brain_mask import BrainMask, read_brain_mask, write_brain_mask, write_nifti
from mindeye_pl.errors import UserError

SHAPE = (5, 6, 4)
#: Rotated, with voxels of different sizes.
AFFINE = np.array([[1.7, 0.3, 0, -20], [-0.2, 1.8, 0.1, 5], [0, -0.1, 2.1, 9], [0, 0, 0, 1]])


@pytest.fixture
def volume() -> np.ndarray:
    """NSD's convention: -1 outside cortex, 0 in other cortex, 1 in nsdgeneral."""
    return np.random.default_rng(0).choice([-1, 0, 1], SHAPE).astype(np.int16)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(values: np.ndarray, affine: np.ndarray = AFFINE, name: str = "mask.nii.gz") -> Path:
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float64])
def test_columns_are_the_positive_voxels_in_c_order(volume: np.ndarray, save: Callable[..., Path], dtype: type) -> None:
    inside = volume > 0
    mask = read_brain_mask(save(volume.astype(dtype)), inside.sum())
    other = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    np.testing.assert_array_equal(mask.voxels(other), other[inside])
    assert mask.is_in_c_order
    assert mask.shape == SHAPE
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-5)  # stored as float32


def test_numbered_voxels_have_the_order_of_their_numbers(volume: np.ndarray, save: Callable[..., Path]) -> None:
    """A preparation in MATLAB's order, for example."""
    inside = volume > 0
    numbers = np.zeros(SHAPE, np.int32, order="F")
    numbers.T[inside.T] = 1 + np.arange(inside.sum())
    mask = read_brain_mask(save(numbers), inside.sum())
    other = np.random.default_rng(1).random(SHAPE)
    np.testing.assert_array_equal(mask.voxels(other), other.T[inside.T])
    assert not mask.is_in_c_order


@pytest.mark.parametrize("numbered", [False, True])
def test_values_survive_volume_and_file(tmp_path: Path, volume: np.ndarray, numbered: bool) -> None:
    rng = np.random.default_rng(2)
    indices = np.argwhere(volume > 0)
    mask = BrainMask(rng.permutation(indices) if numbered else indices, SHAPE, AFFINE)
    values = rng.standard_normal(mask.num_voxels).astype(np.float32)
    np.testing.assert_array_equal(mask.voxels(mask.volume(values)), values)
    assert np.isnan(mask.volume(values)).sum() == np.prod(SHAPE) - mask.num_voxels

    path = tmp_path / "mask.nii.gz"
    write_brain_mask(path, mask)
    again = read_brain_mask(path, mask.num_voxels)
    np.testing.assert_array_equal(again.indices, mask.indices)
    first = path.read_bytes()
    write_brain_mask(path, mask)
    assert path.read_bytes() == first
    assert nibabel.load(path).get_data_dtype() == (np.int32 if numbered else np.int8)

    write_nifti(tmp_path / "map.nii.gz", mask.image(values, "simulated, a map"))
    image = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(mask.voxels(image.get_fdata(dtype=np.float32)), values)
    assert bytes(image.header["descrip"].item()) == b"simulated, a map"
    assert image.header.get_xyzt_units()[0] == "mm"


def test_a_planted_map_lies_at_its_world_coordinates(tmp_path: Path, volume: np.ndarray) -> None:
    mask = BrainMask(np.random.default_rng(3).permutation(np.argwhere(volume > 0)), SHAPE, AFFINE)
    for axis in range(3):
        write_nifti(tmp_path / "map.nii.gz", mask.image(mask.coordinates[:, axis].astype(np.float32)))
        image = nibabel.load(tmp_path / "map.nii.gz")
        found = image.get_fdata()
        positions = np.argwhere(np.isfinite(found))
        assert len(positions) == mask.num_voxels
        world = apply_affine(image.affine, positions)
        np.testing.assert_allclose(found[tuple(positions.T)], world[:, axis], atol=1e-5)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def half_a_header(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:200]))


def without_its_end(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-60]))


def too_large(path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((1, 1, 1), np.int8), AFFINE)
    image.header.set_data_shape((30000, 30000, 30000))
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(8)))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "is truncated or no NIfTI file"),
        (half_a_header, "is truncated or no NIfTI file"),
        (without_its_end, "is truncated or no NIfTI file"),
        (lambda path: path.write_bytes(b"no NIfTI file"), "is truncated or no NIfTI file"),
        (lambda path: path.write_bytes(b""), "is truncated or no NIfTI file"),
        (Path.unlink, r"mask\.nii\.gz is missing"),
        (too_large, r"is no mask \(got: shape \(30000, 30000, 30000\)"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    volume: np.ndarray, save: Callable[..., Path], damage: Callable[[Path], object], says: str
) -> None:
    damage(path := save(volume))
    with pytest.raises(UserError, match=says) as error:
        read_brain_mask(path, int((volume > 0).sum()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "affine", "says"),
    [
        (np.ones((2, 3, 4), np.int8), AFFINE, r"does not fit the betas \(got: 24 voxels above 0; expected: 7"),
        (np.zeros((2, 3, 4), np.int8), AFFINE, "got: 0 voxels above 0"),
        (np.ones((7, 1, 1, 2), np.int8), AFFINE, r"got: shape \(7, 1, 1, 2\); expected: one volume of three"),
        (np.ones((7, 1), np.int8), AFFINE, r"got: shape \(7, 1\)"),
        (np.ones((7, 1, 1), np.int8), AFFINE * np.nan, "the affine gives no positions"),
        (np.ones((7, 1, 1), np.int8), AFFINE * [[1], [0], [1], [1]], "the affine gives no positions"),
        (np.ones((7, 1, 1), np.complex64), AFFINE, "got: values of type complex64"),
    ],
)
def test_unfit_masks_are_refused_in_one_line(tmp_path: Path, values: np.ndarray, affine: np.ndarray, says: str) -> None:
    header = nibabel.Nifti1Header()
    header["sform_code"] = 1
    header.set_data_dtype(values.dtype)
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    nibabel.save(nibabel.Nifti1Image(values, None, header), path := tmp_path / "mask.nii.gz")
    with pytest.raises(UserError, match=says) as error:
        read_brain_mask(path, 7)
    assert "\n" not in str(error.value)


def test_values_that_are_not_numbers_are_outside(save: Callable[..., Path]) -> None:
    values = np.array([np.nan, 1, 0, -1, 1]).reshape(5, 1, 1)
    np.testing.assert_array_equal(read_brain_mask(save(values), 2).indices[:, 0], [1, 4])
