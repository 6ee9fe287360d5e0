"""Single-trial responses (betas) of a subject, and their normalisation (MindEye2, spec sections 1.1 and 1.6).

Legend: n trials, V voxels of the subject's nsdgeneral mask.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from mindeye_pl.data.layout.hdf5 import open_dataset, read_rows
from mindeye_pl.data.layout.paths import FETCH_AGAIN, DataLayout
from mindeye_pl.errors import UserError

#: Type of a training's betas in memory; the published training keeps float16.
BetaDtype = Literal["float16", "float32"]

#: Trials checked per block, which bounds the memory of the check.
_TRIALS_PER_BLOCK = 256


def betas_shape(layout: DataLayout, subject: int) -> tuple[int, int]:
    """Return (trials, V) of the subject's betas file from its header."""
    path = layout.betas(subject)
    with open_dataset(path, "betas") as betas:
        if betas.ndim != 2 or 0 in betas.shape:
            raise UserError(f"{path} does not contain betas", got=betas.shape, expected="(trials, V)")
        return betas.shape


def read_betas(layout: DataLayout, subject: int, beta_rows: np.ndarray) -> np.ndarray:
    """Read rows `(n,)` of the betas file, `(n, V)` float32, as z-scores per scan session.

    Only these rows are read: one session of subject 1 is 47 MB of 1.9 GB. Raises a UserError if the file is missing or
    damaged, or a beta is not finite.
    """
    path = layout.betas(subject)
    with open_dataset(path, "betas") as dataset:
        betas = read_rows(dataset, beta_rows).astype(np.float32, copy=False)  # (n, V)
    for start in range(0, len(betas), _TRIALS_PER_BLOCK):
        finite = np.isfinite(betas[start : start + _TRIALS_PER_BLOCK]).all(axis=1)
        if not finite.all():
            row = beta_rows[start + int(np.argmin(finite))]
            raise UserError(f"{path}: a beta is not finite", got=f"row {row}", fix=FETCH_AGAIN)
    return betas


class BetaNormalisation:
    """Normalisation of betas, fitted on training trials and applied to all trials. The base keeps them as stored."""

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """Fit on blocks `(n, V)` of the training trials of the sessions in use, read lazily; the base reads none."""
        return cls()

    def __call__(self, betas: np.ndarray) -> np.ndarray:
        """Normalise `(n, V)` float32 betas in place and return them."""
        return betas


class AsPublished(BetaNormalisation):
    """Betas as stored: z-scored per session over trials that may include test trials."""


@dataclass(frozen=True)
class ZScoreTrainSessions(BetaNormalisation):
    """Z-scores of every voxel over the training trials of the sessions in use, without leakage from other trials."""

    mean: np.ndarray  # (V,) float32
    std: np.ndarray  # (V,) float32, population standard deviation; 1 for a constant voxel

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """Merge mean and standard deviation block by block in float64 (Chan, Golub and LeVeque)."""
        count, mean, squares = 0, np.zeros(()), np.zeros(())
        for block in blocks:
            block_mean = block.mean(axis=0, dtype=np.float64)
            offset = block_mean - mean
            total = count + len(block)
            mean = mean + offset * len(block) / total
            squares = squares + ((block - block_mean) ** 2).sum(axis=0) + offset**2 * (count * len(block) / total)
            count = total
        std = np.sqrt(squares / count)
        constant = std <= np.finfo(np.float32).eps * np.abs(mean)
        return cls(mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32))

    def __call__(self, betas: np.ndarray) -> np.ndarray:
        """Return the betas as z-scores, computed in place."""
        betas -= self.mean
        betas /= self.std
        return betas


#: Values of the option `data.betas`.
NORMALISATIONS: dict[str, type[BetaNormalisation]] = {
    "as_published": AsPublished,
    "zscore_train_sessions": ZScoreTrainSessions,
}


def read_noise_free(layout: DataLayout, subject: int, stimulus_ids: np.ndarray) -> np.ndarray:
    """Read noise-free responses `(n, V)` float32 of a simulated dataset, in the units of the betas.

    The ids `(n,)`, in any order, are of images that the subject saw. Raises a UserError if the file is missing or
    damaged.
    """
    with open_dataset(layout.noise_free(subject), "stimulus_ids") as dataset:
        ids = dataset[:]
    rows = np.searchsorted(ids, stimulus_ids)
    assert np.array_equal(ids[np.minimum(rows, len(ids) - 1)], stimulus_ids), "the subject did not see all images"
    with open_dataset(layout.noise_free(subject), "responses") as responses:
        return responses[:][rows].astype(np.float32, copy=False)
