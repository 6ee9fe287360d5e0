"""A ridge regression whose choices are all made on held-out predictions of training images.

Choices: the penalty; one for each target or one for all; single trials or their means. The last two are compared with
penalties that one half of the images chose and the other half judges, so that many penalties are no advantage.

Legend: N training images, V voxels, T targets, A penalties, m test images, k validation images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge_decoder import TrialDecomposition

#: Training data: every trial, or the mean of each image's.
SINGLE, AVERAGED = "single", "averaged"
#: Penalties: one for each target, or one for all.
PER_TARGET, COMMON = "per target", "common"

#: Held-out predictions that are kept, to choose on how predictions are rescaled.
MAX_VALIDATION_IMAGES = 300
_SPLIT_SEED = 0


@dataclass(frozen=True)
class RidgeFit:
    """Predictions of a tuned ridge regression, and what they need to be rescaled.

    Attributes:
        predictions: `(m, T)` float32, of the test images.
        validation_ids: `(k,)` training images, those with most responses first.
        validation: `(k, T)` float32, their held-out predictions.
        mean: `(T,)` of the training images' targets.
        std: `(T,)` of the training images' targets.
        predicted_std: `(T,)` of the held-out predictions of all training images.
        choices: plain data: `trials`, `penalty`, `penalties` (targets by penalty), `at_lowest` and `at_highest`
            (fractions of the targets that chose an end of the grid), `r2` (held out, of all targets together; 0 is the
            mean of the other images).
    """

    predictions: np.ndarray
    validation_ids: np.ndarray
    validation: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    predicted_std: np.ndarray
    choices: dict[str, Any]


@dataclass(frozen=True)
class _Errors:
    """Sums over the images of each half.

    Attributes:
        squares: `(2, A, T)` squared held-out errors.
        predicted_std: `(A, T)` standard deviation of the held-out predictions over all images.
    """

    squares: np.ndarray
    predicted_std: np.ndarray

    def of_choice(self, penalty: str) -> float:
        """Return the sum of squared errors in each half, with the penalties that the other half chose."""
        total = 0.0
        for chooser, judge in ((0, 1), (1, 0)):
            chosen = _choose(self.squares[chooser], penalty)  # (T,)
            total += float(np.take_along_axis(self.squares[judge], chosen[None], 0).sum())
        return total


def tuned_ridge(
    voxels: np.ndarray,
    stimulus_ids: np.ndarray,
    targets: np.ndarray,
    test_voxels: np.ndarray,
    penalties: Sequence[float],
    *,
    device: torch.device | None = None,
    block_size: int = 8192,
) -> RidgeFit:
    """Fit and tune on training trials, and predict the test images.

    Args:
        voxels: `(n, V)`, one row per trial.
        stimulus_ids: `(n,)`, the image of each trial.
        targets: `(N, T)` float16 or float32, of the images in ascending order, maybe memory-mapped.
        test_voxels: `(m, V)`, means of the test images' responses.
        penalties: candidates, positive.
        device: of all computations.
        block_size: targets that are fitted at once, which bounds the memory.

    Raises:
        UserError: for penalties that are not positive or fewer than three images.
    """
    penalties = sorted(float(one) for one in penalties)
    if not penalties or penalties[0] <= 0:
        raise UserError("ridge penalties are not positive", got=penalties, expected="positive numbers")
    ids = np.unique(stimulus_ids)
    if len(ids) < 3:
        raise UserError("too few images for ridge regression", got=len(ids), expected="at least 3")
    assert len(targets) == len(ids), f"targets of {len(targets)} images for {len(ids)}"
    best: tuple[float, str, str, TrialDecomposition, _Errors] | None = None
    for trials in (AVERAGED,) if len(ids) == len(stimulus_ids) else (AVERAGED, SINGLE):
        rows = (voxels, stimulus_ids) if trials == SINGLE else (image_means(voxels, stimulus_ids), ids)
        decomposition = TrialDecomposition(*rows, device=device)
        errors = _held_out_errors(decomposition, targets, penalties, block_size)
        for penalty in (COMMON, PER_TARGET):
            error = errors.of_choice(penalty)
            if best is None or error < best[0]:
                best = error, trials, penalty, decomposition, errors
        del decomposition, errors
    assert best is not None
    _, trials, penalty, decomposition, errors = best
    squares = errors.squares.sum(0)  # (A, T)
    chosen = _choose(squares, penalty)  # (T,)
    by_target = np.array(penalties)[chosen]
    mean, std = _moments(targets, block_size)
    counts = np.bincount(chosen, minlength=len(penalties))
    left = float(np.take_along_axis(squares, chosen[None], 0).sum())
    _, repetitions = np.unique(stimulus_ids, return_counts=True)
    kept = _most_repeated(repetitions)
    return RidgeFit(
        predictions=decomposition.predict(test_voxels, targets, by_target, block_size),
        validation_ids=ids[kept],
        validation=_held_out_predictions(decomposition, targets, by_target, kept, block_size),
        mean=mean,
        std=std,
        predicted_std=np.take_along_axis(errors.predicted_std, chosen[None], 0)[0].astype(np.float32),
        choices={
            "trials": trials,
            "penalty": penalty,
            "penalties": {f"{value:g}": int(count) for value, count in zip(penalties, counts, strict=True) if count},
            "at_lowest": float(counts[0] / len(chosen)),
            "at_highest": float(counts[-1] / len(chosen)),
            "r2": 1 - left / max(_squares_of_means(std, len(ids)), 1e-30),
        },
    )


def image_means(voxels: np.ndarray, stimulus_ids: np.ndarray) -> np.ndarray:
    """Return the mean of each image's trials `(n, V)`, `(N, V)` float32, images ascending."""
    _, image, counts = np.unique(stimulus_ids, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(voxels[np.argsort(image, kind="stable")], first, axis=0)
    return (sums / counts[:, None]).astype(np.float32)


def _choose(squares: np.ndarray, penalty: str) -> np.ndarray:
    """Return the index of each target's penalty `(T,)` by squared errors `(A, T)`."""
    if penalty == PER_TARGET:
        return squares.argmin(0)
    return np.full(squares.shape[1], squares.sum(1).argmin())


def _held_out_errors(
    decomposition: TrialDecomposition, targets: np.ndarray, penalties: Sequence[float], block_size: int
) -> _Errors:
    half = np.random.default_rng(_SPLIT_SEED).permutation(len(targets)) % 2
    first = torch.from_numpy(half == 0).to(decomposition.device)
    squares = np.empty((2, len(penalties), targets.shape[1]))
    spread = np.empty((len(penalties), targets.shape[1]))
    for row, penalty in enumerate(penalties):
        matrix = decomposition.residuals(penalty)  # (N, N)
        for block, values in decomposition.blocks(targets, block_size):
            left = matrix @ values  # (N, t)
            spread[row, block] = (values - left).std(0, correction=0).cpu().numpy()
            squared = left.square_()
            squares[0, row, block] = squared[first].sum(0).cpu().numpy()
            squares[1, row, block] = squared[~first].sum(0).cpu().numpy()
    return _Errors(squares, spread)


def _held_out_predictions(
    decomposition: TrialDecomposition, targets: np.ndarray, penalties: np.ndarray, images: np.ndarray, block_size: int
) -> np.ndarray:
    """Return held-out predictions `(k, T)` of some images, each target with its own penalty."""
    predicted = np.empty((len(images), targets.shape[1]), np.float32)
    rows = torch.from_numpy(images).to(decomposition.device)
    for penalty in np.unique(penalties):
        matrix = decomposition.residuals(float(penalty))[rows]  # (k, N)
        for block, values in decomposition.blocks(targets, block_size):
            own = penalties[block] == penalty
            if own.any():
                found = (values[rows] - matrix @ values).cpu().numpy()
                predicted[:, block] = np.where(own, found, predicted[:, block])
    return predicted


def _moments(targets: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over the images, `(T,)` float32 each."""
    mean, std = (np.empty(targets.shape[1], np.float32) for _ in range(2))
    for start in range(0, targets.shape[1], block_size):
        block = np.asarray(targets[:, start : start + block_size], np.float32)
        mean[start : start + block_size], std[start : start + block_size] = block.mean(0), block.std(0)
    return mean, std


def _squares_of_means(std: np.ndarray, count: int) -> float:
    """Return the sum of squared errors of predicting each image's targets by the mean of the others."""
    return float((std.astype(np.float64) ** 2).sum() * count * (count / (count - 1)) ** 2)


def _most_repeated(counts: np.ndarray) -> np.ndarray:
    """Return the images `(k,)` with most responses, as test images have several; ties in random order."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(counts))
    return order[np.argsort(-counts[order], kind="stable")][:MAX_VALIDATION_IMAGES]
