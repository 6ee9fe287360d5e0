"""Tasks of the preparation's worker processes, which import neither PyTorch nor the rest of the preparation.

Legend: t trials of a session, V selected voxels, n images.
"""

from pathlib import Path

import numpy as np

from mindeye_pl.data.nsd.stimuli import resize_stimuli
from mindeye_pl.data.nsd.volumes import SCALE, open_session
from mindeye_pl.data.nsd.zscore import Moments, percent_signal_change
from mindeye_pl.errors import UserError

#: Median standard deviation below which responses cannot be percent signal change times 300; NSD's is several hundred.
_MIN_STD = SCALE / 30


def varying_voxels(path: Path) -> np.ndarray:
    """Return the voxels of a session that do not have one value in all trials, `(X, Y, Z)` bool."""
    return open_session(path).varying()


def session_moments(path: Path, mask: np.ndarray, fitted: np.ndarray) -> Moments:
    """Return the moments of the trials `fitted` `(t,)` bool of a session, over a bool mask `(X, Y, Z)`."""
    return Moments.of(open_session(path).read(mask)[fitted])


def normalised_session(path: Path, mask: np.ndarray, moments: Moments | np.ndarray | None) -> tuple[np.ndarray, int]:
    """Return the responses of a session `(t, V)` float32, and the number of voxels that are constant in it.

    `moments` are those that the z-scores are of, or the trials `(t,)` bool of the session that are fitted; None returns
    percent signal change. A constant voxel has no data, because it lay outside of the imaged volume, and becomes 0.
    Raises a UserError if the file is damaged, or its values are too small to be percent signal change times 300.
    """
    betas = open_session(path).read(mask)
    every = Moments.of(betas)
    varying = every.std > 0
    if varying.any() and np.median(every.std[varying]) < _MIN_STD:
        got = f"median standard deviation {np.median(every.std[varying]):.3g}"
        expected = f"percent signal change times {SCALE}, several hundred"
        raise UserError(f"{path} does not hold betas as NSD stores them", got=got, expected=expected)
    if isinstance(moments, np.ndarray):
        moments = every if moments.all() else Moments.of(betas[moments])
    scaled = percent_signal_change(betas) if moments is None else moments.zscore(betas)
    scaled[:, ~varying] = 0
    return scaled, int((~varying).sum())


def resized_stimuli(path: Path, start: int, stop: int) -> tuple[np.ndarray, int]:
    """Return images `start` to `stop` `(n, 3, 224, 224)` float16, and 0, in the form of a session's result."""
    return resize_stimuli(path, start, stop), 0
