import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from mindeye_pl.data.layout.betas import AsPublished, ZScoreTrainSessions, betas_shape, read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.errors import UserError


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/io")
@pytest.mark.parametrize("chunks", [None, (25, 1000)])
def test_read_betas_reads_only_the_requested_rows(tmp_path: Path, chunks):
    layout = DataLayout(tmp_path)
    betas = np.random.default_rng(0).random((1000, 5000), np.float32)  # ten sessions of 2 MB
    with h5py.File(layout.betas(1), "w") as file:
        file.create_dataset("betas", data=betas, chunks=chunks)
    rows = np.setdiff1d(np.arange(300, 400), [303, 350, 351])  # without the test trials
    before = bytes_read()
    read = read_betas(layout, 1, rows)
    assert bytes_read() - before < 1.1 * betas[300:400].nbytes
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, betas[rows])


def test_betas_file_of_another_shape_is_refused(small_nsd):
    assert betas_shape(small_nsd, 1) == (80, 7)
    with h5py.File(small_nsd.betas(1), "w") as file:
        file["betas"] = np.zeros(80)
    with pytest.raises(UserError, match=r"betas_all_subj01_fp32_renorm\.hdf5 does not contain betas \(got: \(80,\)"):
        betas_shape(small_nsd, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_betas_with_nan_are_refused(small_nsd, value):
    with h5py.File(small_nsd.betas(1), "r+") as file:
        file["betas"][[7, 50], 3] = value
    rows = np.array([50, 9, 7, 8])
    with pytest.raises(UserError, match=r"betas_all_subj01.*not finite \(got: row 50\)"):
        read_betas(small_nsd, 1, rows)
    read_betas(small_nsd, 1, np.arange(8, 50))


@pytest.mark.parametrize("block", [1, 7, 500])
def test_zscore_train_sessions_equals_sklearn(block):
    rng = np.random.default_rng(0)
    betas = (rng.normal(size=(500, 6)) * [1, 5, 0.1, 1, 1, 0] + [0, 3, -2, 1000, 1, 4.1]).astype(np.float32)
    normalisation = ZScoreTrainSessions.fit(betas[start : start + block] for start in range(0, 500, block))
    scaler = StandardScaler().fit(betas.astype(np.float64))
    np.testing.assert_allclose(normalisation.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(normalisation.std, scaler.scale_, rtol=1e-5)
    other = rng.normal(size=(3, 6)).astype(np.float32)
    np.testing.assert_allclose(normalisation(other.copy()), scaler.transform(other), rtol=1e-3, atol=1e-5)


def test_betas_as_published_are_not_changed():
    def blocks():
        pytest.fail("betas were read")
        yield

    betas = np.ones((2, 3), np.float32)
    assert AsPublished.fit(blocks())(betas) is betas
