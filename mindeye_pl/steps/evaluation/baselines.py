"""Baselines and ceilings of retrieval: ridge regression from the same trials, and the noise ceiling.

Legend: n images, V voxels, S tokens, D token width.
"""

import numpy as np

from mindeye_pl.data.nsd.betas import read_noise_free
from mindeye_pl.data.nsd.layout import NSDLayout


def image_means(voxels: np.ndarray, stimulus_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages the repetitions of each image.

    Args:
        voxels: `(trials, V)`.
        stimulus_ids: `(trials,)`.

    Returns:
        `(n, V)` float32 means and the `(n,)` ascending ids they belong to.
    """
    ids, inverse, counts = np.unique(stimulus_ids, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    sums = np.add.reduceat(voxels[order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    return (sums / counts[:, None]).astype(np.float32), ids


def ridge_tokens(voxels: np.ndarray, tokens: np.ndarray, test_voxels: np.ndarray, alphas: list[float]) -> np.ndarray:
    """Tokens of test images by ridge regression.

    Args:
        voxels: `(n, V)`, one row for each training image.
        tokens: `(n, S, D)` of those images.
        test_voxels: `(m, V)`.
        alphas: candidates of the penalty, chosen for each target by leave-one-out.

    Returns:
        `(m, S, D)` float32.
    """
    from mindeye_pl.metrics.ridge import ridge_predictions

    predictions = ridge_predictions(voxels, tokens.reshape(len(tokens), -1), test_voxels, alphas=alphas)
    return predictions.reshape(len(test_voxels), *tokens.shape[1:])


def noise_free_pair(
    layout: NSDLayout, subject: int, train_ids: np.ndarray, test_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free responses `(n, V)` and `(m, V)` to training and to test images of a simulated subject."""
    return read_noise_free(layout, subject, train_ids), read_noise_free(layout, subject, test_ids)
