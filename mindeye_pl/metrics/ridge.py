"""Ridge regression with one row per image, as the ridge encoder needs it; the baselines have `ridge_tuning`.

Each target t (one value of one token) has its own weights and its own penalty:
min over w_t, b_t of ||y_t - X w_t - b_t||^2 + alpha_t ||w_t||^2, with alpha_t chosen by leave-one-out.

Legend: n training images, m test images, V voxels, T = S D targets.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mindeye_pl.errors import UserError

ALPHAS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)


def ridge_blocks(
    voxels: np.ndarray,
    targets: np.ndarray,
    test_voxels: np.ndarray,
    *,
    alphas: Sequence[float] = ALPHAS,
    targets_per_block: int = 8192,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield each block of targets: its columns, their `(m, t)` predictions and their `(t,)` penalties.

    Shapes: voxels `(n, V)`, targets `(n, T)`, float16 or float32 and maybe memory-mapped, test voxels `(m, V)`. Voxels
    have one row per image. The caller averages repetitions first: with several rows per image, leaving out one row
    would leak the image, and the penalty would be too small. Only one block's coefficients are in memory.

    Raises:
        UserError: for penalties that are not positive or fewer than three images.
    """
    from sklearn.linear_model import RidgeCV

    assert voxels.shape[1] == test_voxels.shape[1], f"{voxels.shape[1]} and {test_voxels.shape[1]} voxels"
    assert len(voxels) == len(targets), f"{len(voxels)} brains for {len(targets)} images"
    if len(alphas) == 0 or min(alphas) <= 0:
        raise UserError("ridge penalties are not positive", got=list(alphas), expected="positive numbers")
    if len(voxels) < 3:
        raise UserError("too few images for ridge regression", got=len(voxels), expected="at least 3")
    model = RidgeCV(alphas=alphas, alpha_per_target=True)  # leave-one-out in closed form
    for start in range(0, targets.shape[1], targets_per_block):
        block = slice(start, min(start + targets_per_block, targets.shape[1]))
        model.fit(voxels, np.asarray(targets[:, block], np.float32))
        width = block.stop - block.start
        predicted = model.predict(test_voxels).reshape(len(test_voxels), width)  # sklearn drops the axis if width is 1
        yield block, predicted, np.broadcast_to(model.alpha_, width)
