"""Design of a subject's experiment: the order of the trials and their neighbours."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mindeye_pl.data.layout.behaviour import OLD_TRIALS, Behaviour


@dataclass(frozen=True)
class Design:
    """Trials of one subject."""

    behaviour: np.ndarray  # (T, 17) float64 in temporal order, columns as `Behaviour`
    sessions: np.ndarray  # (T,) int64 from 1, ascending

    @classmethod
    def from_trials(
        cls, subject: int, trials: np.ndarray, stimulus_ids: np.ndarray, is_test: np.ndarray, sessions: np.ndarray
    ) -> Self:
        """Create the design from the trials with a response; the other rows and columns are -1.

        `trials` `(n,)` int64 are 0-based over all sessions and rows of the betas file, `stimulus_ids` `(n,)` int64 rows
        of the images file; `is_test` `(n,)` bool marks test images; `sessions` `(T,)` int64 from 1, ascending, are of
        all trials.
        """
        behaviour = np.full((len(sessions), len(Behaviour)), -1.0)
        behaviour[trials, Behaviour.STIMULUS] = stimulus_ids
        behaviour[trials, Behaviour.SUBJECT] = subject
        behaviour[trials, Behaviour.SESSION] = sessions[trials]
        behaviour[trials, Behaviour.BETA_ROW] = trials
        behaviour[trials, Behaviour.IS_SHARED1000] = is_test
        return cls(behaviour, sessions)

    @property
    def num_sessions(self) -> int:
        """Number of sessions of the subject."""
        return int(self.sessions[-1])

    @property
    def stimulus_ids(self) -> np.ndarray:
        """Stimulus id of each trial, `(T,)` int64."""
        return self.behaviour[:, Behaviour.STIMULUS].astype(np.int64)

    @property
    def training_trials(self) -> np.ndarray:
        """Rows of the training trials, ascending `(n,)` int64."""
        return np.flatnonzero((self.behaviour[:, Behaviour.BETA_ROW] >= 0) & ~self.is_shared)

    @property
    def test_trials(self) -> np.ndarray:
        """Rows of the trials with a test image, ascending `(n,)` int64."""
        return np.flatnonzero(self.is_shared)

    @property
    def is_shared(self) -> np.ndarray:
        """Mask of the trials with a test image, `(T,)` bool."""
        return self.behaviour[:, Behaviour.IS_SHARED1000] == 1

    def session_rows(self, session: int) -> slice:
        """Return the trials of a 0-based session."""
        return slice(*np.searchsorted(self.sessions, (session + 1, session + 2)).tolist())


def find_previous_presentations(stimulus_ids: np.ndarray) -> np.ndarray:
    """Return the last earlier trial with the same image for each trial, `(T,)` int64, -1 if there is none."""
    order = np.argsort(stimulus_ids, kind="stable")
    same = stimulus_ids[order][1:] == stimulus_ids[order][:-1]
    previous = np.full(len(stimulus_ids), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous


def gather_neighbours(design: Design, trials: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the behaviour at offsets from each trial, `(n, offsets, 17)`, -1 beyond the ends of the session."""
    rows = trials[:, None] + offsets
    sessions = np.pad(design.sessions, 1)[np.clip(rows, -1, len(design.sessions)) + 1]  # 0 beyond the ends
    return _rows_or_missing(design, np.where(sessions == design.sessions[trials, None], rows, -1))


def gather_olds(design: Design, trials: np.ndarray) -> np.ndarray:
    """Return the other presentations of each trial's image, `(n, 3, 17)`, in temporal order."""
    order = np.argsort(design.stimulus_ids, kind="stable")
    ids = design.stimulus_ids[order]
    first = np.searchsorted(ids, design.stimulus_ids[trials], side="left")
    last = np.searchsorted(ids, design.stimulus_ids[trials], side="right")
    rows = np.full((len(trials), OLD_TRIALS), -1)
    for index, trial in enumerate(trials):
        same = order[first[index] : last[index]]
        others = same[same != trial][:OLD_TRIALS]
        rows[index, : len(others)] = others
    return _rows_or_missing(design, rows)


def _rows_or_missing(design: Design, rows: np.ndarray) -> np.ndarray:
    """Return the behaviour of some trials, -1 in every column for row -1."""
    return np.where(rows[..., None] >= 0, design.behaviour[rows], -1.0)
