"""Z-scores of NSD's stored responses, with exact statistics: sums of integers do not round.

MindEye2 z-scored each voxel within each session by scikit-learn's `StandardScaler`: population standard deviation, no
epsilon, 1 in place of 0 (spec of MindEye2, section 1.6). Its notebook fits on all trials of the session, the
distributed file on those without test images.

Legend: T trials of a session, V voxels.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from mindeye_pl.data.nsd.volumes import SCALE

#: Values of `data.zscore`: trials that a voxel's mean and standard deviation are of. `all_trials` and
#: `exclude_shared1000` are within each session; `train_sessions_only` takes the training trials of some sessions and
#: applies them to every session; `none` keeps percent signal change.
ZScore = Literal["all_trials", "exclude_shared1000", "train_sessions_only", "none"]

#: Trials whose numbers are widened at once, which bounds the memory.
_TRIALS_PER_BLOCK = 64


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of squares of stored responses; exact for up to 90,000 trials of int16."""

    count: int
    sums: np.ndarray  # (V,) int64
    squares: np.ndarray  # (V,) int64

    @classmethod
    def of(cls, betas: np.ndarray) -> Self:
        """Return the moments of responses `(n, V)` int16."""
        sums, squares = np.zeros((2, betas.shape[1]), np.int64)
        for start in range(0, len(betas), _TRIALS_PER_BLOCK):
            block = betas[start : start + _TRIALS_PER_BLOCK].astype(np.int64)
            sums += block.sum(0)
            squares += (block**2).sum(0)
        return cls(len(betas), sums, squares)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.sums + other.sums, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """Mean in stored units, `(V,)` float64."""
        return self.sums / self.count

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation in stored units, `(V,)` float64; exactly 0 for a constant voxel."""
        return np.sqrt(self.count * self.squares - self.sums**2) / self.count

    def zscore(self, betas: np.ndarray) -> np.ndarray:
        """Return z-scores `(T, V)` float32 of stored responses; a constant voxel is divided by one percent."""
        return _scaled(betas, self.mean, np.where(self.std == 0, SCALE, self.std))


def percent_signal_change(betas: np.ndarray) -> np.ndarray:
    """Return stored responses as percent signal change, `(T, V)` float32."""
    return _scaled(betas, np.zeros(betas.shape[1]), np.full(betas.shape[1], SCALE))


def _scaled(betas: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    scaled = np.empty(betas.shape, np.float32)
    for start in range(0, len(betas), _TRIALS_PER_BLOCK):
        block = slice(start, start + _TRIALS_PER_BLOCK)
        scaled[block] = (betas[block] - mean) / std
    return scaled
