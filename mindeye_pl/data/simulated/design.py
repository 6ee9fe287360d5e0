"""Random design of NSD's experiment: the order of the images and the observer's buttons.

Legend: T trials of a subject in all designed sessions, N images of a subject, R repetitions.
"""

import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.design import Design, find_previous_presentations

RUNS_PER_SESSION = 12
TRIAL_S = 4.0
#: NSD's subjects had about one session per week.
DAYS_BETWEEN_SESSIONS = 7

#: Fraction of presentations near their image's own time; the others are uniform (NSD also mixes a narrow and a uniform
#: distribution, so that some repetitions share a session and others are months apart).
_NEAR_FRACTION = 0.6
_NEAR_SESSIONS = 0.5
_ANSWER_RATE = 0.99
#: Probabilities that the observer calls an old image old, or a new image old.
_HIT_RATE, _FALSE_ALARM_RATE = 0.75, 0.2


def draw_design(
    rng: np.random.Generator,
    subject: int,
    shared: np.ndarray,
    own: np.ndarray,
    *,
    repetitions: int,
    trials_per_session: int,
    num_sessions: int,
) -> Design:
    """Draw the experiment of a subject, who sees the stimuli `shared` with all subjects and its `own` ones.

    The presentations, `repetitions` of each image, fill whole sessions; only the first `num_sessions` are completed.
    """
    stimuli = np.concatenate([shared, own])
    designed_sessions, left = divmod(len(stimuli) * repetitions, trials_per_session)
    assert left == 0, "the presentations do not fill whole sessions"
    order = _order_of_presentations(rng, len(stimuli), repetitions, designed_sessions)
    stimulus_ids = stimuli[order][: num_sessions * trials_per_session]

    trials = np.arange(len(stimulus_ids))
    session, position = np.divmod(trials, trials_per_session)
    run, trial = _runs(trials_per_session)
    previous = find_previous_presentations(stimulus_ids)
    is_old = previous >= 0
    is_old_current = is_old & (session[previous] == session)

    behaviour = np.full((len(trials), len(Behaviour)), -1.0)
    columns = {
        Behaviour.STIMULUS: stimulus_ids,
        Behaviour.SUBJECT: subject,
        Behaviour.SESSION: session + 1,
        Behaviour.RUN: run[position],
        Behaviour.TRIAL: trial[position],
        Behaviour.BETA_ROW: trials,
        Behaviour.TIME: DAYS_BETWEEN_SESSIONS * session + position * TRIAL_S / 86_400,
        Behaviour.IS_OLD: is_old,
        Behaviour.IS_OLD_CURRENT: is_old_current,
        Behaviour.IS_SHARED1000: np.isin(stimulus_ids, shared),
        **_answers(rng, is_old, is_old_current),
    }
    for column, values in columns.items():
        behaviour[:, column] = values
    return Design(behaviour, session + 1)


def _order_of_presentations(rng: np.random.Generator, num_stimuli: int, repetitions: int, sessions: int) -> np.ndarray:
    """Draw image indices in temporal order, (N * R,): each near its image's time on a circle, or uniform."""
    moment = rng.random((num_stimuli, 1))
    near = moment + rng.normal(0, _NEAR_SESSIONS / sessions, (num_stimuli, repetitions))
    anywhere = rng.random((num_stimuli, repetitions))
    times = np.where(rng.random((num_stimuli, repetitions)) < _NEAR_FRACTION, near, anywhere) % 1
    return np.argsort(times.ravel(), kind="stable") // repetitions


def _runs(trials_per_session: int) -> tuple[np.ndarray, np.ndarray]:
    """Return run and trial number of each trial in a session, 1-based; NSD's runs have 63, 62, 63, ... trials."""
    ends = -(-trials_per_session * np.arange(RUNS_PER_SESSION + 1) // RUNS_PER_SESSION)
    positions = np.arange(trials_per_session)
    run = np.searchsorted(ends, positions, side="right") - 1
    return run + 1, positions - ends[run] + 1


def _answers(rng: np.random.Generator, is_old: np.ndarray, is_old_current: np.ndarray) -> dict[Behaviour, np.ndarray]:
    """Draw the buttons of an observer who recognises some old images: 1 is new, 2 is old, -1 is no answer."""
    count = len(is_old)
    says_old = rng.random(count) < np.where(is_old, _HIT_RATE, _FALSE_ALARM_RATE)
    changes = rng.random(count) < 0.02  # the other button was pressed first
    answered = rng.random(count) < _ANSWER_RATE
    time_ms = np.round(700 * np.exp(0.3 * rng.standard_normal(count)))
    answer = {
        Behaviour.IS_CORRECT: says_old == is_old,
        Behaviour.IS_CORRECT_CURRENT: says_old == is_old_current,
        Behaviour.REACTION_TIME: time_ms,
        Behaviour.CHANGE_MIND: changes,
        Behaviour.BUTTON: 1 + says_old,
    }
    pressed = {Behaviour.TOTAL_1: ~says_old | changes, Behaviour.TOTAL_2: says_old | changes}
    return {
        **{column: np.where(answered, values, -1) for column, values in answer.items()},
        **{column: values & answered for column, values in pressed.items()},
    }
