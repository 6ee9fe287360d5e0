"""Episodes: hours and trials of a subject's sessions."""

import numpy as np
import pytest

from mindeye_pl.data.episodes import divide
from mindeye_pl.data.layout.trials import Trials
from mindeye_pl.errors import UserError


def trials_of(sessions: int, per_session: int = 10, images: int = 1000) -> Trials:
    count = sessions * per_session
    ids = np.random.default_rng(0).integers(0, images, count)
    return Trials(3, ids, np.arange(count), 2 + np.repeat(np.arange(sessions), per_session))


@pytest.mark.parametrize("hours", [0.5, 1, 1.5, 3])
@pytest.mark.parametrize("episodes", [1, 2, 5])
def test_hours_and_trials(hours: float, episodes: int) -> None:
    trials = trials_of(10, images=200)
    parts = [divide(trials, episode, episodes, hours) for episode in range(episodes)]
    for hour, rest in parts:
        assert len(hour) == round(10 * hours)
        assert not set(hour.stimulus_ids) & set(rest.stimulus_ids)
        assert not set(hour.sessions) & set(rest.sessions)
        assert len(rest)
    rows = np.concatenate([rest.beta_rows for _, rest in parts])
    assert len(np.unique(rows)) == len(rows), "each trial is in one episode"
    assert len({tuple(np.unique(hour.sessions)) for hour, _ in parts}) == episodes, "hours differ"


def test_all_trials_are_used_that_can_be() -> None:
    trials = trials_of(10, images=10**6)
    rest = [divide(trials, episode, 5, 1)[1] for episode in range(5)]
    assert sum(map(len, rest)) == len(trials)


def test_part_of_a_session_is_its_first_trials() -> None:
    hour, _ = divide(trials_of(4), 0, 2, 0.3)
    np.testing.assert_array_equal(hour.beta_rows, [10, 11, 12])


def test_an_hour_is_at_most_half_of_the_sessions() -> None:
    for hours in (5, 7, float("inf")):
        hour, rest = divide(trials_of(10), 0, 2, hours)
        assert len(np.unique(hour.sessions)) == 5
        assert len(np.unique(rest.sessions)) >= 2


@pytest.mark.parametrize(("sessions", "episodes", "hours"), [(1, 1, 1), (1, 1, 0.5), (2, 3, 1)])
def test_too_few_sessions_are_refused(sessions: int, episodes: int, hours: float) -> None:
    with pytest.raises(UserError, match="subject 3 has too few sessions"):
        divide(trials_of(sessions), episodes - 1, episodes, hours)
