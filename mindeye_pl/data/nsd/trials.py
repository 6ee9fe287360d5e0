"""Which trials there are: their stimuli, their betas, their sessions (MindEye2, spec sections 1.2 to 1.4)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from mindeye_pl.data.nsd.betas import betas_shape
from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.files import FETCH_AGAIN, SET_ROOT
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.shards import indexed_behaviour
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.types import PositiveFloat

#: A part of a session is its first trials: 1.5 is the first session and the first half of the second one's trials.
NumSessions = PositiveFloat | Literal["all"]
TestSplit = Literal["new_test", "test"]
TEST_SPLITS = get_args(TestSplit)


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of one subject, one array entry each.

    Attributes:
        subject: 1 to 8.
        stimulus_ids: `(n,)` int64, rows of the images file.
        beta_rows: `(n,)` int64, rows of the subject's betas file.
        sessions: `(n,)` int64, 1-based.
    """

    subject: int
    stimulus_ids: np.ndarray
    beta_rows: np.ndarray
    sessions: np.ndarray

    @classmethod
    def from_behaviour(cls, subject: int, behaviour: np.ndarray) -> Self:
        """From `(n, 17)` behaviour arrays."""
        columns = (Behaviour.STIMULUS, Behaviour.BETA_ROW, Behaviour.SESSION)
        return cls(subject, *(behaviour[:, column].astype(np.int64) for column in columns))

    def __len__(self) -> int:
        return len(self.stimulus_ids)

    def select(self, which: np.ndarray) -> Self:
        """Those trials that a mask or an index array picks."""
        return type(self)(self.subject, self.stimulus_ids[which], self.beta_rows[which], self.sessions[which])


def count_sessions(layout: NSDLayout, subject: int) -> int:
    """Scan sessions of a subject on disk: shards of the training split, one each."""
    return len(list(layout.shard(subject, "train").parent.glob("*.tar")))


def load_training_trials(layout: NSDLayout, subject: int, num_sessions: NumSessions, cache_dir: Path) -> Trials:
    """Trials of the training split in the first sessions of a subject, in order of time.

    Args:
        layout: the data.
        subject: 1 to 8.
        num_sessions: the first n sessions, a part of one too, or "all".
        cache_dir: where the indices of shards are kept.

    Raises:
        UserError: if more sessions are asked for than exist, or none, or a file is missing, damaged or of other data.
    """
    number = _number_of_sessions(layout, subject, num_sessions)
    return _without_later_part(_load_training(layout, subject, number, cache_dir), number)


def load_all_trials(
    layout: NSDLayout, subject: int, num_sessions: NumSessions, test_split: str, cache_dir: Path
) -> Trials:
    """As `load_training_trials`, with those of the shared1000 images among them.

    Args:
        layout: the data.
        subject: 1 to 8.
        num_sessions: see there; of a session in part, the first of all its trials.
        test_split: whose shard holds the trials of shared1000 images, one of `TEST_SPLITS`.
        cache_dir: where the indices of shards are kept.

    Raises:
        UserError: see there.
    """
    number = _number_of_sessions(layout, subject, num_sessions)
    training = _load_training(layout, subject, number, cache_dir)
    shared = load_test_trials(layout, subject, test_split, cache_dir)
    shared = shared.select(np.isin(shared.sessions, training.sessions))
    everything = Trials(
        subject,
        *(
            np.concatenate([getattr(training, name), getattr(shared, name)])
            for name in ("stimulus_ids", "beta_rows", "sessions")
        ),
    )
    return _without_later_part(everything.select(np.argsort(everything.beta_rows)), number)


def _number_of_sessions(layout: NSDLayout, subject: int, num_sessions: NumSessions) -> float:
    existing = count_sessions(layout, subject)
    if existing == 0:
        raise UserError(
            f"{layout.shard(subject, 'train').parent} holds no shards", expected="0.tar, 1.tar, ...", fix=SET_ROOT
        )
    if num_sessions != "all" and not 0 < num_sessions <= existing:
        raise UserError(
            f"data.num_sessions: subject {subject} has other sessions in {layout.root}",
            got=num_sessions,
            expected=f"above 0 to {existing}, or all",
            fix=f"data.num_sessions={existing}",
        )
    return existing if num_sessions == "all" else num_sessions


def _load_training(layout: NSDLayout, subject: int, number: float, cache_dir: Path) -> Trials:
    """Trials of the training split in so many sessions, a part of one taken whole."""
    shards = (layout.shard(subject, "train", index) for index in range(math.ceil(number)))
    return _load(layout, subject, shards, cache_dir)


def _without_later_part(trials: Trials, num_sessions: float) -> Trials:
    """Those of the first sessions, of the last one its first trials alone where the number ends in a part."""
    if num_sessions == math.ceil(num_sessions):
        return trials
    last = trials.sessions == trials.sessions[-1]
    earlier, num_last = len(trials) - int(last.sum()), int(last.sum())
    return trials.select(np.arange(earlier + max(1, round(num_last * (num_sessions % 1)))))


def load_test_trials(layout: NSDLayout, subject: int, split: str, cache_dir: Path) -> Trials:
    """Trials of the shared1000 images in all sessions of a subject, in order of time.

    Args:
        layout: the data.
        subject: 1 to 8.
        split: one of `TEST_SPLITS`; the older one lacks the last three sessions.
        cache_dir: where the indices of shards are kept.
    """
    return _load(layout, subject, [layout.shard(subject, split)], cache_dir)


def _load(layout: NSDLayout, subject: int, shards: Iterable[Path], cache_dir: Path) -> Trials:
    """The trials of some shards, none of them pointing outside the betas or the images."""
    num_betas, num_stimuli = betas_shape(layout, subject)[0], len(Stimuli(layout.stimuli))
    behaviours = []
    for shard in shards:
        behaviour = indexed_behaviour(shard, cache_dir)
        _check_inside(shard, behaviour[:, Behaviour.BETA_ROW], layout.betas(subject), num_betas)
        _check_inside(shard, behaviour[:, Behaviour.STIMULUS], layout.stimuli, num_stimuli)
        behaviours.append(behaviour)
    return Trials.from_behaviour(subject, np.concatenate(behaviours))


def _check_inside(shard: Path, rows: np.ndarray, target: Path, num_rows: int) -> None:
    inside = (rows >= 0) & (rows < num_rows)  # false for nan too
    if not inside.all():
        raise UserError(
            f"{shard} names a row that {target} does not have",
            got=f"{rows[~inside][0]:g}",
            expected=f"0 to {num_rows - 1}",
            fix=FETCH_AGAIN,
        )


def is_validation(stimulus_ids: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask of the images held out of training, `(n,)` bool.

    A hash of each image's own id decides, so that an image is on the same side whatever the sessions in use, and
    all its repetitions are with it.

    Args:
        stimulus_ids: `(n,)` int64.
        fraction: expected share of the images, 0 to 1.
        seed: another seed draws other images.
    """
    return image_hash(stimulus_ids, seed) < fraction


def image_hash(stimulus_ids: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each image, `(n,)` float64, uniform over images (the finaliser of SplitMix64)."""
    bits = stimulus_ids.astype(np.uint64) + np.random.default_rng(seed).integers(2**63, dtype=np.uint64)
    bits = bits * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (bits ^ (bits >> np.uint64(31))) / 2.0**64
