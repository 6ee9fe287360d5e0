"""Arrays of betas of every format are read as numpy reads them, whatever the order of their axes."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mindeye_pl.data.own import arrays
from mindeye_pl.data.own.arrays import BetasFile
from tests.data.own.made_study import AFFINE, nibabel

SHAPE, TRIALS = (5, 4, 3), 7
Writer = Callable[[Path, np.ndarray], Path]


def npy(folder: Path, volume: np.ndarray) -> Path:
    np.save(folder / "betas.npy", volume)
    return folder / "betas.npy"


def npy_trials_first(folder: Path, volume: np.ndarray) -> Path:
    return npy(folder, np.moveaxis(volume, -1, 0))


def npy_trials_by_voxels(folder: Path, volume: np.ndarray) -> Path:
    return npy(folder, volume.reshape(-1, TRIALS).T)


def npy_voxels_by_trials(folder: Path, volume: np.ndarray) -> Path:
    return npy(folder, volume.reshape(-1, TRIALS))


def nifti(folder: Path, volume: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(volume, AFFINE), folder / "betas.nii.gz")
    return folder / "betas.nii.gz"


def hdf5(folder: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(folder / "betas.hdf5", "w") as file:
        file["meanvol"] = np.zeros((2, 2, 2))
        for name, values in datasets.items():
            file[name] = values
    return folder / "betas.hdf5"


def glmsingle(folder: Path, volume: np.ndarray) -> Path:
    return hdf5(folder, betasmd=volume, R2run=volume)


def glmsingle_flat(folder: Path, volume: np.ndarray) -> Path:
    return hdf5(folder, betasmd=volume.reshape(-1, 1, 1, TRIALS))


def glmsingle_two_axes(folder: Path, volume: np.ndarray) -> Path:
    return hdf5(folder, betasmd=volume.reshape(-1, TRIALS))


def compressed(folder: Path, volume: np.ndarray) -> Path:
    with h5py.File(folder / "betas.h5", "w") as file:
        file.create_dataset("any_name", data=volume, chunks=(2, 2, 2, 2), compression="gzip")
    return folder / "betas.h5"


def matlab_73(folder: Path, volume: np.ndarray) -> Path:
    """Axes in the order of MATLAB's files, the last one first."""
    with h5py.File(folder / "betas.mat", "w") as file:
        file["modelmd"] = volume.T
        file["modelmd"].attrs["MATLAB_class"] = np.bytes_("single")
    return folder / "betas.mat"


def matlab_73_two_axes(folder: Path, volume: np.ndarray) -> Path:
    """A variable of trials by voxels."""
    with h5py.File(folder / "betas.mat", "w") as file:
        file["betas"] = volume.reshape(-1, TRIALS)
        file["betas"].attrs["MATLAB_class"] = np.bytes_("single")
    return folder / "betas.mat"


def matlab_5(folder: Path, volume: np.ndarray) -> Path:
    savemat(folder / "betas.mat", {"modelmd": volume, "pcnum": 3})
    return folder / "betas.mat"


WITH_VOLUME = (npy, npy_trials_first, nifti, glmsingle, compressed, matlab_73, matlab_5)
FLAT = (npy_trials_by_voxels, npy_voxels_by_trials, glmsingle_flat, glmsingle_two_axes, matlab_73_two_axes)


@pytest.mark.parametrize("write", [*WITH_VOLUME, *FLAT])
@pytest.mark.parametrize("block_bytes", [1, 400, 2**26])
def test_every_format_holds_the_same_betas(
    tmp_path: Path, write: Writer, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", block_bytes)
    volume = np.random.default_rng(0).normal(size=(*SHAPE, TRIALS)).astype(np.float32)
    file = BetasFile.of(write(tmp_path, volume), TRIALS)
    assert (file.num_trials, file.num_voxels) == (TRIALS, np.prod(SHAPE))
    assert file.volume == (SHAPE if write in WITH_VOLUME else None)
    assert (file.affine is not None) == (write is nifti)
    voxels = np.array([0, 1, 7, 11, 12, 40, 59])
    expected = volume.reshape(-1, TRIALS).T
    np.testing.assert_array_equal(file.read(slice(0, TRIALS), voxels), expected[:, voxels])
    np.testing.assert_array_equal(file.read(slice(2, 5), np.arange(60)), expected[2:5])


def test_a_square_array_has_the_usual_order(tmp_path: Path) -> None:
    square = np.arange(49.0).reshape(7, 7)
    np.testing.assert_array_equal(BetasFile.of(npy(tmp_path, square), 7).read(slice(0, 7), np.arange(7)), square)
    betas = BetasFile.of(hdf5(tmp_path, betasmd=square), 7)
    np.testing.assert_array_equal(betas.read(slice(0, 7), np.arange(7)), square.T)
