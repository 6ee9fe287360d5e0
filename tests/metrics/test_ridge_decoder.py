"""The eigendecomposition of trials against the normal equations, and held-out predictions against real refits."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge_decoder import TrialDecomposition
from mindeye_pl.metrics.ridge_tuning import AVERAGED, COMMON, PER_TARGET, SINGLE, image_means, tuned_ridge

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def trials(
    num_images: int, num_voxels: int, num_targets: int, noise: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return voxels and stimulus ids of one to three trials per image, shuffled, and targets of each image."""
    rng = np.random.default_rng(num_images)
    clean = rng.standard_normal((num_images, num_voxels))
    weights = rng.standard_normal((num_voxels, num_targets)) / np.sqrt(num_voxels)
    targets = 3 + clean @ weights + 0.1 * rng.standard_normal((num_images, num_targets))
    image = rng.permutation(np.repeat(np.arange(num_images), rng.integers(1, 4, num_images)))
    voxels = clean[image] + noise * rng.standard_normal((len(image), num_voxels))
    return voxels.astype(np.float32), 10 + 3 * image, targets.astype(np.float32)


def refit(voxels: np.ndarray, ids: np.ndarray, targets: np.ndarray, penalty: float, queries: np.ndarray) -> np.ndarray:
    _, image = np.unique(ids, return_inverse=True)
    return Ridge(penalty).fit(voxels.astype(np.float64), targets[image]).predict(queries)


@pytest.mark.parametrize(("num_images", "num_voxels"), [(20, 8), (12, 60)], ids=["primal", "dual"])
def test_predictions_are_the_normal_equations(num_images: int, num_voxels: int) -> None:
    voxels, ids, targets = trials(num_images, num_voxels, 5)
    queries, penalties = voxels[:7] + 0.1, np.array([0.1, 1.0, 1.0, 10.0, 500.0])
    found = TrialDecomposition(voxels, ids).predict(queries, targets, penalties, block_size=2)
    for column, penalty in enumerate(penalties):
        expected = refit(voxels, ids, targets[:, column], penalty, queries)
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("num_images", "num_voxels"), [(20, 8), (12, 60)], ids=["primal", "dual"])
@pytest.mark.parametrize("penalty", [0.1, 10.0, 1e4])
def test_residuals_are_of_fits_without_all_trials_of_the_image(
    num_images: int, num_voxels: int, penalty: float
) -> None:
    voxels, ids, targets = trials(num_images, num_voxels, 3)
    found = TrialDecomposition(voxels, ids).residuals(penalty).numpy() @ targets
    for row, image in enumerate(np.unique(ids)):
        kept = ids != image
        others = np.delete(targets, row, axis=0)
        predicted = refit(voxels[kept], ids[kept], others, penalty, voxels[~kept].mean(0, keepdims=True))[0]
        np.testing.assert_allclose(found[row], targets[row] - predicted, rtol=1e-3, atol=1e-3)


def test_residuals_keep_their_digits_at_small_penalties() -> None:
    voxels, ids, targets = trials(40, 600, 3)
    penalty = 1e-3  # of eigenvalues around 600: 1 - H is 1e-6
    found = TrialDecomposition(voxels, ids).residuals(penalty).numpy() @ targets
    for row, image in enumerate(np.unique(ids)[:5]):
        kept, others = ids != image, np.delete(targets, row, axis=0)
        predicted = refit(voxels[kept], ids[kept], others, penalty, voxels[~kept].mean(0, keepdims=True))[0]
        np.testing.assert_allclose(found[row], targets[row] - predicted, rtol=2e-2, atol=1e-3)


def test_constant_voxels_predict_the_mean() -> None:
    voxels, ids, targets = np.zeros((6, 4), np.float32), np.arange(6), np.arange(12.0).reshape(6, 2)
    found = TrialDecomposition(voxels, ids).predict(voxels[:2], targets, np.ones(2), block_size=2)
    np.testing.assert_allclose(found, np.broadcast_to(targets.mean(0), (2, 2)))


def test_choices_are_made_on_held_out_images() -> None:
    voxels, ids, targets = trials(40, 30, 6)
    queries = voxels[:9]
    fit = tuned_ridge(voxels, ids, targets, queries, PENALTIES, block_size=4)
    choices = fit.choices
    rows = (voxels, ids) if choices["trials"] == SINGLE else (image_means(voxels, ids), np.unique(ids))
    assert choices["trials"] in (SINGLE, AVERAGED)
    assert sum(choices["penalties"].values()) == 6
    squares = [np.square(TrialDecomposition(*rows).residuals(one).numpy() @ targets).sum(0) for one in PENALTIES]
    if choices["penalty"] == COMMON:
        chosen = np.full(6, PENALTIES[int(np.sum(squares, axis=1).argmin())])
    else:
        chosen = np.array(PENALTIES)[np.argmin(squares, axis=0)]
    np.testing.assert_allclose(
        fit.predictions, TrialDecomposition(*rows).predict(queries, targets, chosen, 3), atol=1e-4
    )
    left = [squares[PENALTIES.index(one)][column] for column, one in enumerate(chosen)]
    assert choices["r2"] == pytest.approx(1 - np.sum(left) / (targets.var(0).sum() * 40 * (40 / 39) ** 2), abs=1e-3)
    assert choices["r2"] > 0.5
    np.testing.assert_allclose(fit.mean, targets.mean(0), rtol=1e-5)
    np.testing.assert_allclose(fit.std, targets.std(0), rtol=1e-4)
    assert (fit.predicted_std < fit.std).all(), "held-out predictions are shrunk"


def test_validation_images_are_the_most_repeated_and_held_out() -> None:
    voxels, ids, targets = trials(30, 10, 4)
    fit = tuned_ridge(voxels, ids, targets, voxels[:3], [1.0])
    every, counts = np.unique(ids, return_counts=True)
    repeated = counts[np.searchsorted(every, fit.validation_ids)]
    assert (np.diff(repeated) <= 0).all()
    assert set(fit.validation_ids) == set(every)
    if fit.choices["trials"] == SINGLE:
        image = fit.validation_ids[0]
        kept, row = ids != image, int(np.searchsorted(every, image))
        query = voxels[~kept].mean(0, keepdims=True)
        expected = refit(voxels[kept], ids[kept], np.delete(targets, row, axis=0), 1.0, query)[0]
        np.testing.assert_allclose(fit.validation[0], expected, rtol=1e-3, atol=1e-3)


def test_targets_of_different_noise_get_penalties_of_their_own() -> None:
    rng = np.random.default_rng(0)
    voxels = rng.standard_normal((120, 60)).astype(np.float32)
    signal = voxels @ rng.standard_normal((60, 20)).astype(np.float32)
    signal[:, 10:] = 8 * rng.standard_normal((120, 10))  # ten targets that no voxel tells
    fit = tuned_ridge(voxels, np.arange(120), signal, voxels[:2], [0.1, 1.0, 1e2, 1e6])
    assert fit.choices["trials"] == AVERAGED, "one trial per image"
    assert fit.choices["penalty"] == PER_TARGET
    assert fit.choices["at_highest"] == pytest.approx(0.5, abs=0.15)


def test_the_block_size_changes_nothing() -> None:
    voxels, ids, targets = trials(25, 12, 7)
    whole = tuned_ridge(voxels, ids, targets, voxels[:4], PENALTIES)
    parts = tuned_ridge(voxels, ids, targets.astype(np.float16), voxels[:4], PENALTIES, block_size=2)
    assert parts.choices["penalties"] == whole.choices["penalties"]
    np.testing.assert_allclose(parts.predictions, whole.predictions, atol=2e-2)
    np.testing.assert_allclose(parts.validation, whole.validation, atol=2e-2)


def test_invalid_input_is_refused() -> None:
    voxels, ids, targets = trials(10, 5, 2)
    with pytest.raises(UserError, match="positive numbers"):
        tuned_ridge(voxels, ids, targets, voxels, [0.0, 1.0])
    with pytest.raises(UserError, match="too few images"):
        tuned_ridge(voxels[:2], np.arange(2), targets[:2], voxels, [1.0])
