from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.layout.paths import DataLayout
from tests.data.small_nsd import NUM_SHARED, TRIALS_PER_SESSION, write_stimuli, write_subject


@pytest.fixture
def small_nsd(tmp_path: Path) -> DataLayout:
    """Subjects 1 (4 sessions, 7 voxels) and 2 (3 sessions, 5 voxels); images 0 to 5 are shared."""
    layout = DataLayout(tmp_path / "nsd")
    for subject, num_sessions, num_voxels in ((1, 4, 7), (2, 3, 5)):
        rng = np.random.default_rng(subject)
        own = NUM_SHARED + 30 * (subject - 1) + np.arange(30)
        design = rng.permutation(np.repeat(np.concatenate([np.arange(NUM_SHARED), own]), 3))
        write_subject(
            layout, subject, design[: num_sessions * TRIALS_PER_SESSION].reshape(num_sessions, -1), num_voxels
        )
    write_stimuli(layout)
    return layout


@pytest.fixture
def write_nsd(tmp_path: Path) -> Callable[[np.ndarray], DataLayout]:
    """Return a writer of subject 1 with a given design, stimulus ids `(sessions, trials)`; ids below 6 are shared."""

    def write(design: np.ndarray, num_voxels: int = 4) -> DataLayout:
        layout = DataLayout(tmp_path / "designed")
        write_subject(layout, 1, design, num_voxels)
        write_stimuli(layout)
        return layout

    return write
