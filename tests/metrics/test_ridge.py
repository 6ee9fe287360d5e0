from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge import ridge_blocks

ALPHAS = (0.1, 10.0, 1000.0)


def ridge_predictions(voxels: np.ndarray, targets: np.ndarray, test_voxels: np.ndarray, **how: Any) -> np.ndarray:
    """Return the predictions of all blocks, `(m, T)`."""
    return np.hstack([predicted for _, predicted, _ in ridge_blocks(voxels, targets, test_voxels, **how)])


def problem(n: int, num_voxels: int, num_targets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return voxels, targets whose noise grows with their index, and test voxels."""
    rng = np.random.default_rng(n)
    voxels = rng.standard_normal((n + 9, num_voxels)).astype(np.float32)
    weights = rng.standard_normal((num_voxels, num_targets)) / np.sqrt(num_voxels)
    noise = np.linspace(0.01, 20, num_targets) * rng.standard_normal((n + 9, num_targets))
    targets = (3 + voxels @ weights + noise).astype(np.float32)
    return voxels[:n], targets[:n], voxels[n:]


def closed_form(voxels: np.ndarray, target: np.ndarray, alpha: float, left_out: int | None = None) -> np.ndarray:
    """Solve for weights and intercept in float64, with an unpenalised column of ones."""
    keep = np.arange(len(voxels)) != left_out
    design = np.hstack([voxels[keep].astype(np.float64), np.ones((keep.sum(), 1))])
    penalty = alpha * np.eye(design.shape[1])
    penalty[-1, -1] = 0
    return np.linalg.solve(design.T @ design + penalty, design.T @ target[keep].astype(np.float64))


@pytest.mark.parametrize(("n", "num_voxels"), [(30, 6), (15, 40)])
def test_ridge_equals_leave_one_out_by_hand(n: int, num_voxels: int) -> None:
    voxels, targets, test_voxels = problem(n, num_voxels, 7)
    blocks = list(ridge_blocks(voxels, targets, test_voxels, alphas=ALPHAS, targets_per_block=3))
    chosen = np.concatenate([alphas for _, _, alphas in blocks])
    predictions = ridge_predictions(voxels, targets, test_voxels, alphas=ALPHAS, targets_per_block=3)
    assert predictions.shape == (9, 7)
    assert len(set(chosen.tolist())) > 1, "noisier targets need a larger penalty"
    ones = np.ones((len(voxels), 1))
    for t in range(7):
        errors = []
        for alpha in ALPHAS:
            fits = [closed_form(voxels, targets[:, t], alpha, left_out=i) for i in range(n)]
            design = np.hstack([voxels, ones])
            errors.append(sum((targets[i, t] - design[i] @ fit) ** 2 for i, fit in enumerate(fits)))
        best = ALPHAS[int(np.argmin(errors))]
        assert chosen[t] == best
        by_hand = np.hstack([test_voxels, np.ones((9, 1))]) @ closed_form(voxels, targets[:, t], best)
        np.testing.assert_allclose(predictions[:, t], by_hand, rtol=1e-3, atol=1e-3)
        sklearn_ridge = Ridge(best).fit(voxels.astype(np.float64), targets[:, t]).predict(test_voxels)
        np.testing.assert_allclose(predictions[:, t], sklearn_ridge, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("targets_per_block", [1, 2, 5, 100])
def test_ridge_does_not_depend_on_the_block_size(targets_per_block: int) -> None:
    voxels, targets, test_voxels = problem(20, 12, 5)
    whole = ridge_predictions(voxels, targets, test_voxels, alphas=ALPHAS)
    parts = ridge_predictions(voxels, targets, test_voxels, alphas=ALPHAS, targets_per_block=targets_per_block)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)
    columns = [block for block, *_ in ridge_blocks(voxels, targets, test_voxels, targets_per_block=targets_per_block)]
    assert [i for block in columns for i in range(5)[block]] == list(range(5))


def test_half_precision_targets_are_fitted_in_single() -> None:
    voxels, targets, test_voxels = problem(20, 12, 4)
    half = ridge_predictions(voxels, targets.astype(np.float16), test_voxels)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, ridge_predictions(voxels, targets, test_voxels), rtol=2e-2, atol=2e-2)


def test_target_is_fitted_independently_of_others() -> None:
    voxels, targets, test_voxels = problem(20, 12, 6)
    np.testing.assert_allclose(
        ridge_predictions(voxels, targets[:, 2:3], test_voxels),
        ridge_predictions(voxels, targets, test_voxels)[:, 2:3],
        rtol=1e-4,
        atol=1e-4,
    )


def test_uninformative_voxels_predict_the_mean() -> None:
    rng = np.random.default_rng(0)
    voxels, targets = rng.standard_normal((60, 30)), 5 + rng.standard_normal((60, 3))
    predictions = ridge_predictions(voxels, targets, rng.standard_normal((20, 30)), alphas=(1.0, 1e8))
    np.testing.assert_allclose(predictions, np.broadcast_to(targets.mean(0), (20, 3)), atol=0.05)


def test_invalid_input_raises_an_error() -> None:
    voxels, targets, test_voxels = problem(20, 12, 2)
    with pytest.raises(UserError, match="positive numbers"):
        ridge_predictions(voxels, targets, test_voxels, alphas=(0.0, 1.0))
    with pytest.raises(UserError, match="too few images"):
        ridge_predictions(voxels[:2], targets[:2], test_voxels)
