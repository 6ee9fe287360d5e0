"""The simulated experiment: order of the images and the observer's buttons."""

import numpy as np
import pytest

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.design import find_previous_presentations
from mindeye_pl.data.simulated.design import draw_design
from tests.data.simulated.small_world import SMALL, behaviour


@pytest.mark.parametrize("subject", SMALL.subjects)
def test_behaviour_columns_are_consistent(small, subject):
    rows = behaviour(small, subject)
    length = SMALL.trials_per_session
    trial = np.arange(len(rows))
    np.testing.assert_array_equal(rows[:, Behaviour.BETA_ROW], trial)  # each row of the betas once
    assert (rows[:, Behaviour.SUBJECT] == subject).all()
    np.testing.assert_array_equal(rows[:, Behaviour.SESSION], 1 + trial // length)
    for session in range(SMALL.sessions_of(subject)):
        runs = rows[session * length : (session + 1) * length, Behaviour.RUN]
        assert set(runs) == set(range(1, 13))
        assert (np.diff(runs) >= 0).all()
        assert np.ptp(np.unique(runs, return_counts=True)[1]) <= 1
        for run in range(1, 13):
            trials = rows[session * length : (session + 1) * length, Behaviour.TRIAL][runs == run]
            np.testing.assert_array_equal(trials, 1 + np.arange(len(trials)))
    assert (np.diff(rows[:, Behaviour.TIME]) > 0).all()
    seen: dict[float, int] = {}
    for row in rows:  # an observer who remembers everything
        last = seen.get(row[Behaviour.STIMULUS])
        assert row[Behaviour.IS_OLD] == (last is not None)
        assert row[Behaviour.IS_OLD_CURRENT] == (last == row[Behaviour.SESSION])
        seen[row[Behaviour.STIMULUS]] = row[Behaviour.SESSION]
    counts = np.unique(rows[:, Behaviour.STIMULUS], return_counts=True)[1]
    complete = SMALL.sessions_of(subject) == SMALL.designed_sessions
    assert (counts == 3).all() if complete else counts.max() == 3
    answered = rows[rows[:, Behaviour.BUTTON] > 0]
    says_old = answered[:, Behaviour.BUTTON] == 2
    np.testing.assert_array_equal(answered[:, Behaviour.IS_CORRECT], says_old == answered[:, Behaviour.IS_OLD])
    silent = rows[rows[:, Behaviour.BUTTON] < 0]
    missing = [Behaviour.IS_CORRECT, Behaviour.REACTION_TIME, Behaviour.CHANGE_MIND, Behaviour.IS_CORRECT_CURRENT]
    assert (silent[:, missing] == -1).all()
    assert (silent[:, [Behaviour.TOTAL_1, Behaviour.TOTAL_2]] == 0).all()


def test_repetitions_occur_within_and_across_sessions(small):
    rows = behaviour(small, 1)
    previous = find_previous_presentations(rows[:, Behaviour.STIMULUS])
    inside = rows[previous >= 0, Behaviour.IS_OLD_CURRENT].mean()
    assert 0.1 < inside < 0.9
    shared_per_session = [rows[rows[:, 2] == session, Behaviour.IS_SHARED1000].mean() for session in range(1, 9)]
    assert max(shared_per_session) < 2 * np.mean(shared_per_session)


def test_runs_of_nsd_have_63_and_62_trials():
    shared, own = np.arange(2), np.arange(2, 250)
    design = draw_design(
        np.random.default_rng(0), 1, shared, own, repetitions=3, trials_per_session=750, num_sessions=1
    )
    counts = np.unique(design.behaviour[:, Behaviour.RUN], return_counts=True)[1]
    np.testing.assert_array_equal(counts, [63, 62] * 6)
