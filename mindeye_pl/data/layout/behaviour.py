"""Columns that the working layout keeps of each trial (spec of MindEye2, section 1.3)."""

from enum import IntEnum


class Behaviour(IntEnum):
    """Columns of the behaviour arrays; missing values are -1."""

    STIMULUS = 0  # 0-based row in the images file (73K id)
    SUBJECT = 1
    SESSION = 2  # 1-based
    RUN = 3
    TRIAL = 4
    BETA_ROW = 5  # 0-based global trial, row in the betas file
    TIME = 6
    IS_OLD = 7
    IS_CORRECT = 8
    REACTION_TIME = 9
    CHANGE_MIND = 10
    IS_OLD_CURRENT = 11
    IS_CORRECT_CURRENT = 12
    TOTAL_1 = 13
    TOTAL_2 = 14
    BUTTON = 15
    IS_SHARED1000 = 16


#: Numbers of neighbouring trials stored with each trial, the nearest first.
PAST_TRIALS = FUTURE_TRIALS = 15
OLD_TRIALS = 3
