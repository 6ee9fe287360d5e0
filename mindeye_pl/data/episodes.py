"""Episodes of a training for little data: an hour of a subject as a new subject has it, and other trials to decode.

Legend: E episodes of a subject, n trials.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.trials import Trials
from mindeye_pl.errors import UserError


class EpisodeDataModule(TrialDataModule):
    """Trials of several subjects as those of episodes, each of which has an alignment of its own.

    An episode's hour is `hours` sessions of one subject, at most half of them. Its trials are a part of the subject's
    other sessions, without the images of the hour; each trial is in one episode. The first E episodes are those of the
    first subject.

    Args:
        subjects: of the training.
        episodes: E of each subject.
        hours: sessions of an hour, fractions allowed; infinity for half of a subject's.
        options: of `TrialDataModule`.
    """

    def __init__(self, root: Any, subjects: list[int], *, episodes: int, hours: float, **options: Any):
        super().__init__(root, [subject for subject in subjects for _ in range(episodes)], **options)
        self._episodes, self._hours = episodes, hours

    @cached_property
    def hours(self) -> list[Trials]:
        """Trials of each episode's hour; a UserError if a subject has too few sessions."""
        return [hour for hour, _ in self._divided]

    @cached_property
    def train_trials(self) -> list[Trials]:
        """Trials of each episode, without validation images."""
        return [rest for _, rest in self._divided]

    @cached_property
    def _divided(self) -> list[tuple[Trials, Trials]]:
        found = super().train_trials
        return [
            divide(trials, index % self._episodes, self._episodes, self._hours) for index, trials in enumerate(found)
        ]


def divide(trials: Trials, episode: int, episodes: int, hours: float) -> tuple[Trials, Trials]:
    """Return the hour of an episode and its trials.

    The sessions are dealt to the episodes in turn; the hour is the sessions behind an episode's first one. Raises a
    UserError if the episode is left without a trial.
    """
    sessions = np.unique(trials.sessions)
    place = np.searchsorted(sessions, trials.sessions)  # (n,)
    hours = min(hours, len(sessions) / 2)
    whole = math.ceil(hours)
    behind = (place - episode - 1) % len(sessions)  # 0 in the first session of the hour
    in_hour = behind < whole
    if whole > hours:  # the first trials of the last session
        last = np.flatnonzero(behind == whole - 1)
        in_hour[last[round((hours - whole + 1) * len(last)) :]] = False
    hour = trials.select(in_hour)
    is_own = (place % episodes == episode) & (behind >= whole) & ~np.isin(trials.stimulus_ids, hour.stimulus_ids)
    if whole >= len(sessions) or not is_own.any():
        raise UserError(
            f"subject {trials.subject} has too few sessions for finetune.episodes",
            got=f"{len(sessions)} sessions",
            expected=f"at least {max(2, episodes)}",
            fix="a smaller finetune.episodes.per_subject",
        )
    return hour, trials.select(is_own)
