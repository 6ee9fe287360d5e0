"""Single-trial responses (betas) of a subject, and how they are scaled (MindEye2, spec sections 1.1 and 1.6).

Legend: n trials, V voxels of the subject's nsdgeneral mask.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.data.nsd.hdf5 import open_dataset, read_rows
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError

#: Trials that are checked together, so that the check needs little memory.
_TRIALS_AT_ONCE = 256


def betas_shape(layout: NSDLayout, subject: int) -> tuple[int, int]:
    """(trials, V) of the subject's betas file, without reading a beta."""
    path = layout.betas(subject)
    with open_dataset(path, "betas") as betas:
        if betas.ndim != 2:
            raise UserError(f"{path} does not hold betas", got=betas.shape, expected="(trials, V)")
        return betas.shape


def read_betas(layout: NSDLayout, subject: int, beta_rows: np.ndarray) -> np.ndarray:
    """Betas of the trials asked for, `(n, V)` float32, in z-scores per scan session.

    Nothing else of the file is read: one session of subject 1 is 47 MB of 1.9 GB.

    Args:
        layout: where the betas files lie.
        subject: 1 to 8.
        beta_rows: `(n,)` integers, rows of the betas file.

    Raises:
        UserError: if the file is missing or damaged, or a beta is not finite.
    """
    path = layout.betas(subject)
    with open_dataset(path, "betas") as dataset:
        betas = read_rows(dataset, beta_rows).astype(np.float32, copy=False)  # (n, V)
    for start in range(0, len(betas), _TRIALS_AT_ONCE):
        finite = np.isfinite(betas[start : start + _TRIALS_AT_ONCE]).all(axis=1)
        if not finite.all():
            row = beta_rows[start + int(np.argmin(finite))]
            raise UserError(f"{path} holds a beta that is not finite", got=f"row {row}", fix=FETCH_AGAIN)
    return betas


class BetaNormalisation(Protocol):
    """How betas are scaled before anything sees them; fitted on training trials, applied to all."""

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """From blocks `(n, V)` of the training trials of the sessions in use, read as they are asked for."""

    def __call__(self, betas: np.ndarray) -> np.ndarray:
        """Scales `(n, V)` float32 betas in place and returns them."""


class AsPublished:
    """Betas as the files have them: z-scored per session over trials that training may not have seen."""

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """There is nothing to fit, and nothing is read."""
        return cls()

    def __call__(self, betas: np.ndarray) -> np.ndarray:
        """The same betas."""
        return betas


@dataclass(frozen=True)
class ZScoreTrainSessions:
    """Every voxel z-scored by the training trials of the sessions in use, so that no test or later trial leaks in.

    Attributes:
        mean: `(V,)` float32.
        std: `(V,)` float32, population standard deviation; 1 for a voxel that never changes.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, blocks: Iterable[np.ndarray]) -> Self:
        """Mean and standard deviation of each voxel, merged block by block in float64 (Chan, Golub and LeVeque)."""
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
        """The betas in z-scores, in place."""
        betas -= self.mean
        betas /= self.std
        return betas


#: Values of the option `data.betas`.
NORMALISATIONS: dict[str, type[BetaNormalisation]] = {
    "as_published": AsPublished,
    "zscore_train_sessions": ZScoreTrainSessions,
}


def read_noise_free(layout: NSDLayout, subject: int, stimulus_ids: np.ndarray) -> np.ndarray:
    """Noise-free responses `(n, V)` float32 to images that the subject saw, in the units of the betas.

    Args:
        layout: a simulated dataset.
        subject: whose.
        stimulus_ids: `(n,)`, in any order.

    Raises:
        UserError: when the file is missing or broken.
    """
    with open_dataset(layout.noise_free(subject), "stimulus_ids") as seen:
        ids = seen[:]
    rows = np.searchsorted(ids, stimulus_ids)
    assert np.array_equal(ids[np.minimum(rows, len(ids) - 1)], stimulus_ids), "images that the subject never saw"
    with open_dataset(layout.noise_free(subject), "responses") as responses:
        return responses[:][rows].astype(np.float32, copy=False)
