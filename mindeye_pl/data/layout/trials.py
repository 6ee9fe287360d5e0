"""Trials of a subject: stimuli, betas, sessions and repetitions (MindEye2, spec sections 1.2 to 1.4).

Legend: n trials, N distinct images among them, R slots for an image's repetitions.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.betas import betas_shape
from mindeye_pl.data.layout.paths import FETCH_AGAIN, SET_ROOT, DataLayout
from mindeye_pl.data.layout.shards import indexed_behaviour
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.types import PositiveFloat

_UNKNOWN = -1  # of a behaviour array

#: A fraction of a session is its first trials: 1.5 is the first session and the first half of the second one.
NumSessions = PositiveFloat | Literal["all"]

#: Images of a training's validation: training images held out, or the tested ones (Mind Reader's published code).
ValidateOn = Literal["held_out", "tested"]

#: Trials of test images in the training shards, as a laboratory's own shards have them.
TestImages = Literal["refuse", "drop"]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of one subject, one array entry each."""

    subject: int
    stimulus_ids: np.ndarray  # (n,) int64, rows of the images file
    beta_rows: np.ndarray  # (n,) int64, rows of the subject's betas file
    sessions: np.ndarray  # (n,) int64, 1-based

    @classmethod
    def from_behaviour(cls, subject: int, behaviour: np.ndarray) -> Self:
        """Create the trials from `(n, 17)` behaviour arrays."""
        columns = (Behaviour.STIMULUS, Behaviour.BETA_ROW, Behaviour.SESSION)
        return cls(subject, *(behaviour[:, column].astype(np.int64) for column in columns))

    def __len__(self) -> int:
        return len(self.stimulus_ids)

    def __add__(self, others: Self) -> Self:
        """Return these trials, followed by others of the same subject."""
        assert self.subject == others.subject, (self.subject, others.subject)
        columns = ("stimulus_ids", "beta_rows", "sessions")
        return type(self)(
            self.subject, *(np.concatenate([getattr(part, name) for part in (self, others)]) for name in columns)
        )

    def select(self, rows: np.ndarray) -> Self:
        """Return the trials selected by a mask or an index array."""
        return type(self)(self.subject, self.stimulus_ids[rows], self.beta_rows[rows], self.sessions[rows])


def count_sessions(layout: DataLayout, subject: int) -> int:
    """Return the number of scan sessions of a subject on disk, one training shard each."""
    return len(list(layout.shard(subject, "train").parent.glob("*.tar")))


def load_training_trials(
    layout: DataLayout, subject: int, num_sessions: NumSessions, cache_dir: Path, *, test_images: TestImages = "refuse"
) -> Trials:
    """Load the training trials of a subject's first sessions, fractions allowed, in temporal order.

    Shard indices are cached below `cache_dir`. Trials of test images, the shared1000, are refused or left out. Raises a
    UserError if there are fewer sessions, or a file is missing, damaged, of another subject or session, or inconsistent
    with the betas.
    """
    number = _number_of_sessions(layout, subject, num_sessions)
    return _without_later_part(_load_training(layout, subject, number, cache_dir, test_images), number)


def load_all_trials(
    layout: DataLayout,
    subject: int,
    num_sessions: NumSessions,
    test_split: str,
    cache_dir: Path,
    *,
    test_images: TestImages = "refuse",
) -> Trials:
    """Load training and shared1000 trials of a subject's first sessions, in temporal order, as `load_training_trials`.

    A fraction of sessions counts both kinds of trials. `test_split` is the split whose shard has the shared1000 trials.
    """
    number = _number_of_sessions(layout, subject, num_sessions)
    training = _load_training(layout, subject, number, cache_dir, test_images)
    shared = load_test_trials(layout, subject, test_split, cache_dir)
    shared = shared.select(np.isin(shared.sessions, training.sessions))
    both = training + shared
    return _without_later_part(both.select(np.argsort(both.beta_rows)), number)


def _number_of_sessions(layout: DataLayout, subject: int, num_sessions: NumSessions) -> float:
    existing = count_sessions(layout, subject)
    if existing == 0:
        folder = layout.shard(subject, "train").parent
        raise UserError(f"{folder} contains no shards", expected="0.tar, 1.tar, ...", fix=SET_ROOT)
    if num_sessions != "all" and not 0 < num_sessions <= existing:
        what = f"data.num_sessions is out of range for subject {subject} in {layout.root}"
        expected, fix = f"above 0 to {existing}, or all", f"data.num_sessions={existing}"
        raise UserError(what, got=num_sessions, expected=expected, fix=fix)
    return existing if num_sessions == "all" else num_sessions


def _load_training(layout: DataLayout, subject: int, number: float, cache_dir: Path, test_images: TestImages) -> Trials:
    """Load the training trials of the first sessions, the last one whole."""
    shards = [layout.shard(subject, "train", index) for index in range(math.ceil(number))]
    behaviour = _read(layout, subject, shards, cache_dir)
    for session, (shard, part) in enumerate(zip(shards, behaviour, strict=True), start=1):
        if (other := part[part[:, Behaviour.SESSION] != session, Behaviour.SESSION]).size:
            got, expected = f"session {other[0]:g}", f"session {session} alone"
            raise UserError(f"{shard} holds another session", got=got, expected=expected, fix=FETCH_AGAIN)
    found = np.concatenate(behaviour)
    if not len(found):
        what = f"{shards[0].parent} has no trial of subject {subject} in the sessions in use"
        raise UserError(what, got=f"{len(shards)} shards", fix="more sessions, or shards with trials")
    is_test = _is_test_image(layout, subject, found, cache_dir)
    if is_test.any() and test_images == "refuse":
        images = len(np.unique(found[is_test, Behaviour.STIMULUS]))
        what = f"{images} test images are among the training trials of subject {subject} in {layout.root}"
        fix = "data.test_images_in_training=drop leaves them out"
        raise UserError(what, got=f"{is_test.sum()} trials", expected="none, as in MindEye2's shards", fix=fix)
    return Trials.from_behaviour(subject, found[~is_test])


def _is_test_image(layout: DataLayout, subject: int, behaviour: np.ndarray, cache_dir: Path) -> np.ndarray:
    """Return the mask of trials that show a shared1000 image, by the arrays themselves and by the test shards."""
    shards = [layout.shard(subject, split) for split in layout.test_splits(subject)]
    tested = [indexed_behaviour(shard, cache_dir)[:, Behaviour.STIMULUS] for shard in shards]
    is_tested = np.isin(behaviour[:, Behaviour.STIMULUS], np.concatenate([*tested, np.empty(0)]))
    return is_tested | (behaviour[:, Behaviour.IS_SHARED1000] == 1)


def _without_later_part(trials: Trials, num_sessions: float) -> Trials:
    """Keep only the first trials of the last session if the number of sessions has a fraction."""
    if num_sessions == math.ceil(num_sessions):
        return trials
    num_last = int((trials.sessions == trials.sessions[-1]).sum())
    return trials.select(np.arange(len(trials) - num_last + max(1, round(num_last * (num_sessions % 1)))))


def load_test_trials(layout: DataLayout, subject: int, split: str, cache_dir: Path) -> Trials:
    """Load a subject's shared1000 trials in all sessions, in temporal order; the split `test` lacks the last three."""
    return Trials.from_behaviour(
        subject, np.concatenate(_read(layout, subject, [layout.shard(subject, split)], cache_dir))
    )


def _read(layout: DataLayout, subject: int, shards: Iterable[Path], cache_dir: Path) -> list[np.ndarray]:
    """Read the behaviour of some shards, checking their subject, and that their rows exist in betas and images."""
    num_betas, num_stimuli = betas_shape(layout, subject)[0], len(Stimuli(layout.stimuli))
    behaviours = []
    for shard in shards:
        behaviour = indexed_behaviour(shard, cache_dir)
        if (others := behaviour[~np.isin(behaviour[:, Behaviour.SUBJECT], (subject, _UNKNOWN))]).size:
            got, expected = f"subject {others[0, Behaviour.SUBJECT]:g}", f"subject {subject}"
            raise UserError(f"{shard} holds another subject", got=got, expected=expected, fix=FETCH_AGAIN)
        _check_inside(shard, behaviour[:, Behaviour.BETA_ROW], layout.betas(subject), num_betas)
        _check_inside(shard, behaviour[:, Behaviour.STIMULUS], layout.stimuli, num_stimuli)
        behaviours.append(behaviour)
    return behaviours


def _check_inside(shard: Path, rows: np.ndarray, target: Path, num_rows: int) -> None:
    inside = (rows >= 0) & (rows < num_rows)  # false for NaN too
    if not inside.all():
        got, expected = f"{rows[~inside][0]:g}", f"0 to {num_rows - 1}"
        raise UserError(f"{shard} refers to a row outside {target}", got=got, expected=expected, fix=FETCH_AGAIN)


def is_validation(stimulus_ids: np.ndarray, fraction: float, seed: int, at_least: int = 0) -> np.ndarray:
    """Return the mask of the images `(n,)` int64 held out for validation, an expected `fraction` of them, `(n,)` bool.

    The decision is a hash of the image's id and the seed, so it does not depend on the sessions in use, and all
    repetitions of an image are on the same side. Where these are fewer than `at_least` distinct images, the images with
    the lowest hashes are held out, as many as that.
    """
    hashes = image_hash(stimulus_ids, seed)
    lowest = np.unique(hashes)[:at_least]  # one value per image
    return (hashes < fraction) | np.isin(hashes, lowest)


def image_hash(stimulus_ids: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) per image, `(n,)` float64, uniform over images (the finaliser of SplitMix64)."""
    bits = stimulus_ids.astype(np.uint64) + np.random.default_rng(seed).integers(2**63, dtype=np.uint64)
    bits = bits * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (bits ^ (bits >> np.uint64(31))) / 2.0**64


def assign_image_slots(stimulus_ids: np.ndarray, filling: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the trials in the slots of each image, `(N, R)` int64 trial indices, images ascending.

    The stimulus ids `(n,)` are in temporal order; `filling` maps the numbers of repetitions, `(N,)`, to the repetition
    (0-based) in each slot, `(N, R)`.
    """
    order = np.argsort(stimulus_ids, kind="stable")
    _, first, counts = np.unique(stimulus_ids[order], return_index=True, return_counts=True)
    return order[first[:, None] + filling(counts)]


def cyclic_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return image slots as `assign_image_slots`, filled cyclically: a, a, a from one repetition, a, b, a from two.

    Of an image with more repetitions than slots, the first are used.
    """
    return assign_image_slots(stimulus_ids, lambda counts: np.arange(num_slots) % counts[:, None])


def assign_trial_slots(stimulus_ids: np.ndarray, num_slots: int) -> np.ndarray:
    """Return the slots of each trial's image, `(n, R)` int64 trial indices, filled as `cyclic_slots`."""
    _, image = np.unique(stimulus_ids, return_inverse=True)
    return cyclic_slots(stimulus_ids, num_slots)[image]
