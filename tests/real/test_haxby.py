"""Categories decoded from real fMRI by the package's ridge regression.

`HAXBY_FOLDER` names the folder of the data (tests/real/haxby.py); without it the tests on real data are skipped.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.metrics.ridge import ridge_blocks
from tests.real.haxby import Responses, read_haxby, read_nifti, standardise

NUM_CATEGORIES, NUM_RUNS = 8, 12


@pytest.fixture(scope="module")
def responses() -> Responses:
    """Betas, categories and runs of real brains."""
    folder = os.environ.get("HAXBY_FOLDER")
    if not folder:
        pytest.skip("HAXBY_FOLDER names no folder with Haxby's slice (tests/real/haxby.py)")
    return read_haxby(Path(folder))


def decoding_accuracy(responses: Responses) -> float:
    """Fraction of the blocks whose category ridge regression from the other runs ranks first."""
    hits = []
    targets = np.eye(NUM_CATEGORIES, dtype=np.float32)[responses.categories - 1]  # (n, 8)
    for run in np.unique(responses.runs):
        train, test = responses.runs != run, responses.runs == run
        ((_, predicted, _),) = ridge_blocks(responses.betas[train], targets[train], responses.betas[test])
        hits.append(predicted.argmax(1) == responses.categories[test] - 1)
    return float(np.concatenate(hits).mean())


@pytest.mark.slow
def test_the_slice_has_all_blocks(responses: Responses) -> None:
    assert responses.betas.shape == (NUM_CATEGORIES * NUM_RUNS, 530)
    assert (np.bincount(responses.categories)[1:] == NUM_RUNS).all()
    assert (np.bincount(responses.runs) == NUM_CATEGORIES).all()


@pytest.mark.slow
def test_categories_are_decoded_above_chance(responses: Responses) -> None:
    """0.73 of 96 blocks, chance 0.125; labels permuted within runs decode at chance."""
    assert decoding_accuracy(responses) > 0.6
    generator = np.random.default_rng(0)
    categories = responses.categories.copy()
    for run in np.unique(responses.runs):
        categories[responses.runs == run] = generator.permutation(categories[responses.runs == run])
    permuted = Responses(responses.betas, categories, responses.runs)
    assert decoding_accuracy(permuted) < 0.3


def test_runs_lose_their_trend_and_scale() -> None:
    generator = np.random.default_rng(0)
    run = generator.normal(size=(40, 3)) + np.outer(np.arange(40), [0, 5, -2]) + 100
    found = standardise(run)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(0), 1)
    assert np.abs(np.arange(40) @ found).max() < 1e-9
    np.testing.assert_allclose(standardise(7 * run + 3), found, atol=1e-9)


def test_nifti_is_read_with_the_first_axis_fastest(tmp_path: Path) -> None:
    values = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    header = bytearray(352)
    header[40:56] = np.array([3, *values.shape, 1, 1, 1, 1], "<i2").tobytes()
    header[70:72] = np.array([4], "<i2").tobytes()
    header[108:112] = np.array([352], "<f4").tobytes()
    header[344:348] = b"n+1\0"
    path = tmp_path / "small.nii.gz"
    path.write_bytes(gzip.compress(bytes(header) + values.tobytes(order="F")))
    np.testing.assert_array_equal(read_nifti(path), values)
