"""Categories decoded from real fMRI by the package's ridge regression.

`HAXBY_FOLDER` names the folder of the data (tests/real/haxby.py); without it the tests on real data are skipped.
"""

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.brain_mask import read_brain_mask
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.trials import load_all_trials
from mindeye_pl.metrics.ridge import ridge_blocks
from tests.conftest import CommandLine
from tests.data.own.made_study import random_images, write_events, write_images
from tests.real.haxby import Responses, read_haxby, read_nifti, standardise

NUM_CATEGORIES, NUM_RUNS = 8, 12


@pytest.fixture(scope="module")
def folder() -> Path:
    """Folder of the real data."""
    named = os.environ.get("HAXBY_FOLDER")
    if not named:
        pytest.skip("HAXBY_FOLDER names no folder with Haxby's slice (tests/real/haxby.py)")
    return Path(named)


@pytest.fixture(scope="module")
def responses(folder: Path) -> Responses:
    """Betas, categories and runs of real brains."""
    return read_haxby(folder)


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


def write_haxby_study(study: Path, responses: Responses, mask: nibabel.Nifti1Image) -> None:
    """Write the blocks as a laboratory's study: a volume of betas, the slice's mask, and one picture per category."""
    study.mkdir()
    inside = np.asarray(mask.dataobj) > 0  # (X, Y, Z)
    betas = np.zeros((*inside.shape, len(responses.betas)), np.float32)
    betas[inside] = responses.betas.T
    nibabel.save(nibabel.Nifti1Image(betas, mask.affine), study / "sub-01_ses-01_betas.nii.gz")
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), mask.affine), study / "sub-01_mask.nii.gz")
    write_images(study, random_images(np.random.default_rng(0), NUM_CATEGORIES))
    for run in np.unique(responses.runs):
        name = f"sub-01_ses-01_task-objects_run-{run + 1:02}_events.tsv"
        write_events(study / name, responses.categories[responses.runs == run] - 1)


@pytest.mark.slow
def test_real_brains_pass_through_the_own_data_path(
    tmp_path: Path, cli: CommandLine, folder: Path, responses: Responses
) -> None:
    """Categories are decoded from the prepared betas as from the blocks that were written."""
    mask = nibabel.load(folder / "mask.nii.gz")
    write_haxby_study(tmp_path / "study", responses, mask)
    options = ("own.zscore=none", "own.image_size=32", "scale=tiny", "logger=none")
    code, _, err = cli("data=own", "pipeline=prepare_own", f"own.path={tmp_path / 'study'}", *options)
    assert code == 0, err
    layout = DataLayout(cli.made("prepare_own"))
    trials = load_all_trials(layout, 1, "all", "new_test", tmp_path / "cache")
    betas = read_betas(layout, 1, trials.beta_rows)
    assert betas.shape == responses.betas.shape
    prepared = Responses(betas, trials.stimulus_ids + 1, responses.runs)
    np.testing.assert_array_equal(prepared.categories, responses.categories)
    np.testing.assert_array_equal(
        read_brain_mask(layout.brain_mask(1), 530).volume(np.ones(530), fill=0), np.asarray(mask.dataobj) > 0
    )
    assert decoding_accuracy(prepared) == decoding_accuracy(responses) > 0.6


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
