"""Comparison of a prepared dataset with the miniature that it was made from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.layout.trials import load_all_trials, load_test_trials
from tests.data.released.planted import within_session


@dataclass(frozen=True)
class Known:
    """Trials of one subject of a miniature, in temporal order."""

    shown: np.ndarray  # (T, side, side, 3) uint8
    sessions: np.ndarray  # (T,) from 1
    is_test: np.ndarray  # (T,) bool
    recorded: np.ndarray  # (T, V) as stored in the files, voxels in the order of the prepared ones


def assert_prepared(root: Path, subject: int, known: Known, tolerance: float = 1e-5) -> None:
    """Check images, sessions, test trials and betas of a subject."""
    layout, cache = DataLayout(root), root.parent / "cache"
    trials = load_all_trials(layout, subject, "all", "new_test", cache)
    assert trials.beta_rows.tolist() == list(range(len(known.shown)))
    np.testing.assert_array_equal(trials.sessions, known.sessions)
    pixels = Stimuli(layout.stimuli).read(trials.stimulus_ids).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(pixels, known.shown / 255, atol=1e-3)
    betas = read_betas(layout, subject, trials.beta_rows)
    for session in np.unique(known.sessions):
        rows = known.sessions == session
        np.testing.assert_allclose(betas[rows], within_session(known.recorded[rows]), atol=tolerance)
    test = load_test_trials(layout, subject, "new_test", cache)
    np.testing.assert_array_equal(test.beta_rows, np.flatnonzero(known.is_test))
