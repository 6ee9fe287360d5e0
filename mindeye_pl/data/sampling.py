"""Sampling of the trials of each training batch (MindEye2, spec section 1.4; MindEye1, spec section 2.3).

Every batch has equally many trials of each subject, and no image twice for a subject: the contrastive losses would
take the image's second trial for a wrong answer to the first.

Legend: K batches of an epoch, b trials of one subject in a batch, n trials of a subject.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
from torch.utils.data import DistributedSampler

from mindeye_pl.data.layout.trials import Trials, cyclic_slots
from mindeye_pl.data.resumable import ResumableSampler
from mindeye_pl.errors import UserError

#: A batch: for each subject in it, the subject's index in the list of subjects and the `(b,)` trials.
BatchIndex = list[tuple[int, np.ndarray]]


class EqualShareSampler(ResumableSampler[BatchIndex], DistributedSampler[BatchIndex], ABC):
    """Base of the samplers. It yields whole batches, so the loader is `DataLoader(..., sampler=self, batch_size=None)`.

    Batches depend on (seed, epoch, rank) only; no global generator is used and workers draw nothing. It is a
    `DistributedSampler` because it divides the work between ranks itself, and Lightning does not replace those.

    A batch has `batch_size` trials on one rank over all subjects; a remainder is dropped. The nominal
    `trials_per_session` determines the epoch's length unless images or `steps_per_epoch` do; `num_sessions` is given if
    the last session is used in part. With `steps_per_epoch` an epoch is a part of a pass over the data, or several
    passes; a pass is drawn at once and dealt to as many epochs as it fills, so that short epochs lose no trial.

    Raises a UserError if the batch is smaller than the number of subjects or larger than the data, or a subject has
    fewer than b distinct images.
    """

    def __init__(
        self,
        trials: Sequence[Trials],
        *,
        batch_size: int,
        trials_per_session: int,
        seed: int,
        num_sessions: float | None = None,
        steps_per_epoch: int | None = None,
        max_repetitions: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.trials, self.trials_per_session, self.share = list(trials), trials_per_session, batch_size // len(trials)
        self.max_repetitions = max_repetitions
        if not self.share:
            what, expected = "the batch is too small for an equal share of each subject", f"at least {len(trials)}"
            raise UserError(what, got=batch_size, expected=expected)
        per_rank = self._trials_per_epoch(num_sessions) // world_size
        steps_per_pass = per_rank // (self.share * len(trials))
        if not steps_per_pass:
            raise UserError("the batch is larger than an epoch", got=batch_size, expected=f"at most {per_rank}")
        self.num_iterations = steps_per_epoch or steps_per_pass
        self.epochs_per_pass = math.ceil(steps_per_pass / self.num_iterations)
        super().__init__(range(self.num_iterations), num_replicas=world_size, rank=rank, seed=seed)  # type: ignore[arg-type]
        for subject_trials in self.trials:
            distinct = len(np.unique(subject_trials.stimulus_ids))
            if distinct < self.share:
                what = f"subject {subject_trials.subject} has too few distinct training images for its share of a batch"
                fix = f"a batch size of at most {distinct * len(self.trials)}, or more sessions"
                raise UserError(what, got=distinct, expected=f"at least {self.share}", fix=fix)

    def _trials_per_epoch(self, num_sessions: float | None) -> int:
        """Return the trials of an epoch over all ranks as published: the longest subject's, test trials included."""
        longest = max(len(np.unique(subject_trials.sessions)) for subject_trials in self.trials)
        return int(self.trials_per_session * (num_sessions or longest))

    @abstractmethod
    def draw(self, trials: Trials, number: int, num_batches: int) -> np.ndarray:
        """Return one subject's trials in a pass's batches on this rank, `(num_batches, b)` indices into `trials`.

        Passes are numbered from 0; `num_batches` is K times the epochs of a pass.
        """

    def batches(self) -> Iterator[BatchIndex]:
        """Yield the batches of this epoch on this rank."""
        number, part = divmod(self.epoch, self.epochs_per_pass)
        passes = [self.draw(trials, number, self.epochs_per_pass * self.num_iterations) for trials in self.trials]
        shares = [drawn[part * self.num_iterations :] for drawn in passes]
        for iteration in range(self.num_iterations):
            yield [(subject, share[iteration]) for subject, share in enumerate(shares)]

    def __len__(self) -> int:
        return self.num_iterations


class ResampledSessions(EqualShareSampler):
    """The published rule: an endless stream of sessions drawn with replacement, mixed by a shuffle buffer.

    Trials leave the buffer at random and are cut into batches; a batch with an image twice is dropped. An epoch is
    therefore a random multiset of trials, and since the buffer has the size of a session (published: 750 trials), a
    batch comes from few sessions. Ranks draw independent streams, as the published processes do.
    """

    def draw(self, trials: Trials, number: int, num_batches: int) -> np.ndarray:
        """Return batches as the base class."""
        rng = np.random.default_rng((self.seed, number, trials.subject, self.rank))
        stream = _shuffled(_endless_sessions(trials, rng), self.trials_per_session, rng)
        kept, num_kept, num_drawn = [], 0, 0
        while num_kept < num_batches:
            if num_drawn > 1000 * num_batches:
                what = f"data.sampling=published: hardly a batch of subject {trials.subject} is without an image twice"
                got = f"{num_kept} of {num_drawn} batches of {self.share} trials"
                fix = "fidelity.sampling=corrected, or a smaller batch"
                raise UserError(what, got=got, expected=num_batches, fix=fix)
            batches = np.fromiter(islice(stream, num_batches * self.share), np.int64).reshape(-1, self.share)
            images = np.sort(trials.stimulus_ids[batches], axis=1)
            distinct = (np.diff(images, axis=1) != 0).all(axis=1)
            kept.append(batches[distinct])
            num_kept += int(distinct.sum())
            num_drawn += len(batches)
        return np.concatenate(kept)[:num_batches]


class WithoutReplacement(EqualShareSampler):
    """The corrected rule: every trial is used once in an epoch before any is used twice.

    All ranks draw the same permutation and take different batches of it, so their trials are disjoint.
    """

    def draw(self, trials: Trials, number: int, num_batches: int) -> np.ndarray:
        """Return batches as the base class."""
        return self._dealt(trials.subject, trials.stimulus_ids, number, num_batches)

    def _dealt(self, subject: int, stimulus_ids: np.ndarray, number: int, num_batches: int) -> np.ndarray:
        """Return this rank's batches of a pass, `(num_batches, b)` indices into `(n,)` stimulus ids."""
        rng = np.random.default_rng((self.seed, number, subject))
        num_batches *= self.num_replicas
        drawn = _draw_evenly(stimulus_ids, num_batches, self.share, rng)
        return _deal(drawn, stimulus_ids[drawn], num_batches, rng)[self.rank :: self.num_replicas]


class ByTrial(WithoutReplacement):
    """Mind Reader's rule (spec section 2.1): as the corrected rule, in epochs of as many trials as there are.

    Epochs of the corrected rule have MindEye2's length, which counts test trials too.
    """

    def _trials_per_epoch(self, num_sessions: float | None) -> int:
        return max(map(len, self.trials))


class ByImage(WithoutReplacement):
    """MindEye1's rule (spec section 2.3): an image is used once an epoch, in step i its repetition i mod R.

    R is `max_repetitions`, 3 in NSD.
    An image with fewer repetitions uses them in turn. An epoch has as many trials as there are images. The published
    loader draws its shards of images with replacement; here no image is used twice before all were used.
    """

    def _trials_per_epoch(self, num_sessions: float | None) -> int:
        return max(len(np.unique(subject_trials.stimulus_ids)) for subject_trials in self.trials)

    def draw(self, trials: Trials, number: int, num_batches: int) -> np.ndarray:
        """Return batches as the base class."""
        most = self.max_repetitions or int(np.unique(trials.stimulus_ids, return_counts=True)[1].max())
        slots = cyclic_slots(trials.stimulus_ids, most)  # (N, R)
        images = self._dealt(trials.subject, np.arange(len(slots)), number, num_batches)  # (num_batches, b)
        return slots[images, np.arange(len(images))[:, None] % most]


#: Values of the option `data.sampling`.
SAMPLERS: dict[str, type[EqualShareSampler]] = {
    "published": ResampledSessions,
    "corrected": WithoutReplacement,
    "by_trial": ByTrial,
    "by_image": ByImage,
}


def _endless_sessions(trials: Trials, rng: np.random.Generator) -> Iterator[int]:
    """Yield trials in temporal order, of sessions drawn with replacement."""
    sessions = [np.flatnonzero(trials.sessions == session).tolist() for session in np.unique(trials.sessions)]
    return chain.from_iterable(sessions[rng.integers(len(sessions))] for _ in iter(int, 1))


def _shuffled(incoming: Iterable[int], buffer_size: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield items drawn at random from a full buffer, each replaced there by the next one, without end."""
    incoming = iter(incoming)
    buffer = list(islice(incoming, buffer_size))
    while True:
        for index in rng.integers(buffer_size, size=4096).tolist():
            yield buffer[index]
            buffer[index] = next(incoming)


def _draw_evenly(stimulus_ids: np.ndarray, num_batches: int, share: int, rng: np.random.Generator) -> np.ndarray:
    """Return `(K b,)` trials from as many permutations of all trials as needed, no image more than K times.

    With at least b distinct images that many trials always exist; the limit matters only if the epoch is a few batches
    of a small session.
    """
    drawn = np.empty(0, np.int64)
    while len(drawn) < num_batches * share:
        drawn = np.append(drawn, rng.permutation(len(stimulus_ids)))
        drawn = drawn[_occurrence(stimulus_ids[drawn]) < num_batches]
    return drawn[: num_batches * share]


def _occurrence(values: np.ndarray) -> np.ndarray:
    """Return how often each value occurred before, `(n,)`: 0 at its first occurrence, 1 at its second, ..."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1])
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(values)), 0))
    occurrence = np.empty(len(values), np.int64)
    occurrence[order] = np.arange(len(values)) - first
    return occurrence


def _deal(drawn: np.ndarray, stimulus_ids: np.ndarray, num_batches: int, rng: np.random.Generator) -> np.ndarray:
    """Deal `(K b,)` trials in random order, no image more than K times, into K batches of distinct images, `(K, b)`.

    Trials are ordered by image, images in random order, and cut into b rounds of K. Each round gives every batch one
    trial, in random order. An image occurs at most K times, so it can repeat in a batch only if it spans two rounds;
    the second round then gives those trials to batches that did not get the image in the first.
    """
    _, image = np.unique(stimulus_ids, return_inverse=True)
    image = rng.permutation(image.max() + 1)[image]
    order = np.argsort(image, kind="stable")
    rounds, images = drawn[order].reshape(-1, num_batches), image[order].reshape(-1, num_batches)
    batches = np.empty((num_batches, len(rounds)), np.int64)
    receivers, before = np.empty(0, np.int64), np.empty(0, np.int64)  # of the round before: batches and images
    for index, dealt in enumerate(rounds):
        first = images[index, 0]
        taken = receivers[before == first]
        spanning = int((images[index] == first).sum())
        free = rng.permutation(np.setdiff1d(np.arange(num_batches), taken))
        receivers = np.concatenate([free[:spanning], rng.permutation(np.append(free[spanning:], taken))])
        batches[receivers, index] = dealt
        before = images[index]
    return batches
