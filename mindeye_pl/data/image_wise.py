"""Mind Reader's split: the pictures that a subject saw first are trained on, the others tested (spec section 2.3).

The shared1000 pictures are pictures like any other here, so scores stand beside none of the standard test set's.

Legend: n pictures asked for, T pictures that are tested.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from mindeye_pl.data.layout import NSDLayout
from mindeye_pl.data.splits import ImageWiseName
from mindeye_pl.data.trials import NumSessions, Trials, load_all_trials, load_training_trials
from mindeye_pl.errors import UserError


@dataclass(frozen=True, eq=False)
class LeftOutLast:
    """The pictures that one subject saw for the first time at the end of its sessions in use. See `LeftOut`.

    Attributes:
        name: of the split.
        trials: all of the subject's in the sessions in use, in order of time.
        stimulus_ids: `(T,)` int64, ascending, of the pictures that are tested.
        test_split: whose shard holds the trials of shared1000 pictures.
    """

    name: ImageWiseName
    trials: Trials
    stimulus_ids: np.ndarray
    test_split: str

    @classmethod
    def of_subject(
        cls,
        name: ImageWiseName,
        layout: NSDLayout,
        subject: int,
        num_sessions: NumSessions,
        *,
        test_split: str,
        cache_dir: Path,
    ) -> Self:
        """What is left out where this subject is tested in its first sessions.

        Raises:
            UserError: as `load_all_trials`, or if the sessions show too few pictures for two sides.
        """
        trials = load_all_trials(layout, subject, num_sessions, test_split, cache_dir)
        pictures = by_first_appearance(trials.stimulus_ids)
        trained = len(pictures) * name.percent // 100
        if not 0 < trained < len(pictures):
            raise UserError(
                "data.split leaves nothing to train on, or nothing to test",
                seen=f"{name} of {len(pictures)} pictures of subject {subject}",
                mend="more sessions, or data.split=standard",
            )
        return cls(name, trials, np.sort(pictures[trained:]), test_split)

    def holds(self, stimulus_ids: np.ndarray) -> np.ndarray:
        """Mask of the pictures that are tested, `(n,)` bool of `(n,)` stimulus ids."""
        return np.isin(stimulus_ids, self.stimulus_ids)

    def training_trials(self, layout: NSDLayout, subject: int, num_sessions: NumSessions, cache_dir: Path) -> Trials:
        """All trials of the subject but those of tested pictures; of another subject those of its training split."""
        if subject == self.trials.subject:
            trials = load_all_trials(layout, subject, num_sessions, self.test_split, cache_dir)
        else:
            trials = load_training_trials(layout, subject, num_sessions, cache_dir)
        return trials.select(~self.holds(trials.stimulus_ids))

    def test_trials(self, layout: NSDLayout, subject: int, split: str, cache_dir: Path) -> Trials:
        """All trials of tested pictures in the sessions in use; they belong to the subject that is tested."""
        assert subject == self.trials.subject, f"subject {self.trials.subject} is tested, not {subject}"
        return self.trials.select(self.holds(self.trials.stimulus_ids))


def by_first_appearance(stimulus_ids: np.ndarray) -> np.ndarray:
    """Each picture once, in the order in which they were first shown; `(n,)` of trials in order of time."""
    ids, first = np.unique(stimulus_ids, return_index=True)
    return ids[np.argsort(first)]
