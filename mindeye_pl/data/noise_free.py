"""Responses without noise, which only a simulation knows.

Legend: n pictures, V voxels.
"""

import numpy as np

from mindeye_pl.data.hdf5 import open_dataset
from mindeye_pl.data.layout import NSDLayout


def read_noise_free(layout: NSDLayout, subject: int, stimulus_ids: np.ndarray) -> np.ndarray:
    """Noise-free responses `(n, V)` float32 to pictures that the subject saw, in the units of the betas.

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
    assert np.array_equal(ids[np.minimum(rows, len(ids) - 1)], stimulus_ids), "pictures that the subject never saw"
    with open_dataset(layout.noise_free(subject), "responses") as responses:
        return responses[:][rows].astype(np.float32, copy=False)
