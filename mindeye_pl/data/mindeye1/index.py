"""Index of a subject's MindEye1 files, read without voxels and images, and checked (MindEye1, spec section 2.2).

Legend: R slots, three published; V voxels of the subject's nsdgeneral mask; H and W image size in pixels; T trials:
sessions times trials per session.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tarfile import TarInfo

import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.image_sources import decode_image
from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.layout.shards import TarShard
from mindeye_pl.data.mindeye1.layout import SPLITS, TEST, MindEye1Layout
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.errors import UserError
from mindeye_pl.store.json_files import read_json

VOXELS, TRIALS, STIMULUS, NUM_UNIQUES = "nsdgeneral.npy", "trial.npy", "coco73k.npy", "num_uniques.npy"
IMAGES = ("jpg", "png")

#: Values of the option `data.repeated_slots`: rule that distinguishes repetitions from duplicated slots.
BOTH, BY_TRIAL, BY_NUMBER = "both", "trial", "num_uniques"
REPEATED_SLOTS = (BOTH, BY_TRIAL, BY_NUMBER)
OTHER_RULE = "another data.repeated_slots (docs/data.md)"


@dataclass(frozen=True)
class Sample:
    """One image and its trials.

    `copies` are duplicated slots, each with the first slot of the same trial, which should hold the same responses;
    empty unless the rule is "both".
    """

    name: str  # in its shard
    stimulus_id: int  # 0-based 73K id
    slots: tuple[int, ...]  # first slot of each repetition
    trials: tuple[int, ...]  # 0-based global trial of each of these slots
    copies: tuple[tuple[int, int], ...] = ()


class Shard(TarShard):
    """MindEye1 shard, open within a `with` block; `fetch` is the command that downloads it."""

    def __init__(self, path: Path, fetch: str):
        super().__init__(path, holds="brains and images", fix=f"rm {path}, then {fetch}")

    def grouped(self) -> Iterator[tuple[str, dict[str, TarInfo]]]:
        """Yield name and members (of one name up to the first dot) of each sample; a UserError if one is incomplete."""
        samples: dict[str, dict[str, TarInfo]] = {}
        for member in self.members:
            folder, _, file = member.name.rpartition("/")
            name, _, suffix = file.partition(".")
            samples.setdefault(f"{folder}/{name}".lstrip("/"), {})[suffix] = member
        for name, members in samples.items():
            for suffix in (VOXELS, TRIALS, STIMULUS, NUM_UNIQUES):
                if suffix not in members:
                    raise self.member_error(f"{name}.{suffix}", "missing", got=sorted(members))
            if not any(suffix in members for suffix in IMAGES):
                raise self.member_error(f"{name}.jpg", "missing", got=sorted(members), expected="jpg or png")
            yield name, members

    def voxels(self, member: TarInfo, num_voxels: int | None) -> np.ndarray:
        """Return responses `(R, V)` float32; with `num_voxels` None, V may be any number.

        Raises a UserError if the shape differs, or a response is not finite.
        """
        expected = f"({nsd.REPETITIONS}, {'V' if num_voxels is None else num_voxels}) numbers"
        voxels = self.read_array(member, expected)
        got = f"{voxels.shape} {voxels.dtype}"
        if voxels.ndim != 2 or len(voxels) != nsd.REPETITIONS or 0 in voxels.shape:
            raise self.member_error(member.name, "unexpected array", got=got, expected=expected)
        if num_voxels is not None and voxels.shape[1] != num_voxels:
            raise self.member_error(member.name, "unexpected number of voxels", got=got, expected=expected)
        if not np.isfinite(voxels).all():
            raise self.member_error(member.name, "a response is not finite", got=voxels[~np.isfinite(voxels)][0])
        return voxels.astype(np.float32, copy=False)

    def image(self, members: dict[str, TarInfo]) -> np.ndarray:
        """Return the image of a sample, `(3, H, W)` uint8; raises a UserError if it is damaged or not an image."""
        member = next(members[suffix] for suffix in IMAGES if suffix in members)
        return decode_image(self.read(member), f"{self.path}, member {member.name}")

    def number(self, member: TarInfo) -> int:
        """Return the single integer that a member contains."""
        array = self.read_array(member, "an integer")
        if array.size != 1 or not np.isfinite(array).all() or int(array.item()) != array.item():
            raise self.member_error(member.name, "unexpected array", got=array.tolist(), expected="an integer")
        return int(array.item())


def read_samples(shard: Shard, *, repeated_slots: str, first_trial: int) -> list[Sample]:
    """Return the samples of an open shard, without their voxels and images; parameters as `ConversionSettings`.

    Raises a UserError if a sample is incomplete or invalid.
    """
    samples = []
    for name, members in shard.grouped():
        stimulus_id = shard.number(members[STIMULUS])
        if not 0 <= stimulus_id < nsd.NUM_STIMULI:
            what, limits = "image id out of range", f"0 to {nsd.NUM_STIMULI - 1}"
            raise shard.member_error(members[STIMULUS].name, what, got=stimulus_id, expected=limits)
        trials = _trials(shard, members[TRIALS], first_trial)
        num_uniques = shard.number(members[NUM_UNIQUES])
        slots = _slots_of_repetitions(trials, num_uniques, repeated_slots)
        if not slots:
            what, seen = "its slots do not determine the repetitions", f"trials {trials}, num_uniques {num_uniques}"
            raise shard.member_error(name, what, got=seen, expected=_EXPECTED[repeated_slots], fix=OTHER_RULE)
        again = [(slot, trials.index(trial)) for slot, trial in enumerate(trials) if trial in trials[:slot]]
        copies = tuple(pair for pair in again if pair[1] in slots) if repeated_slots == BOTH else ()
        samples.append(Sample(name, stimulus_id, slots, tuple(trials[slot] for slot in slots), copies))
    return samples


_EXPECTED = {
    BOTH: "num_uniques distinct trials",
    BY_TRIAL: "at least one trial",
    BY_NUMBER: f"1 to {nsd.REPETITIONS} repetitions, of distinct trials, in the first slots",
}


def _trials(shard: Shard, member: TarInfo, first_trial: int) -> list[int]:
    """Return the 0-based trial of each slot, -1 if there is none."""
    expected = f"1 to {nsd.REPETITIONS} trials"
    array = shard.read_array(member, expected).ravel().astype(np.float64)
    named = np.where(np.isfinite(array), array, -1)
    last = first_trial + nsd.TRIALS_PER_SESSION * max(nsd.SESSION_COUNTS.values()) - 1
    if not 1 <= array.size <= nsd.REPETITIONS or (named != np.round(named)).any() or named.max() > last:
        expected = f"{expected}, at most {last}"
        raise shard.member_error(member.name, "invalid trials", got=array.tolist(), expected=expected)
    return [int(trial) - first_trial if trial >= first_trial else -1 for trial in named]


def _slots_of_repetitions(trials: Sequence[int], num_uniques: int, rule: str) -> tuple[int, ...]:
    """Return the first slot of each repetition; empty if the rule is violated."""
    different = tuple(slot for slot, trial in enumerate(trials) if trial >= 0 and trial not in trials[:slot])
    if rule == BOTH:
        return different if len(different) == num_uniques else ()
    if rule == BY_TRIAL:
        return different
    first = tuple(range(num_uniques))
    return first if set(first) <= set(different) else ()


@dataclass(frozen=True)
class ConversionSettings:
    """Conventions that the source files do not state.

    `repeated_slots` is the rule that distinguishes repetitions from duplicated slots: distinct `trial` numbers, the
    first `num_uniques` slots, or `both`, which must agree.
    """

    trials_per_session: int = nsd.TRIALS_PER_SESSION  # trial // trials_per_session is the session
    repeated_slots: str = BOTH
    first_trial: int = 0  # number of a subject's first trial, 0 or 1
    voxel_counts: Mapping[int, int] | None = None  # V of each subject; None uses the number in the first sample


@dataclass(frozen=True)
class IndexedShard:
    """A source shard and its samples."""

    split: str
    path: Path
    samples: list[Sample]


@dataclass(frozen=True)
class IndexedSubject:
    """Index of a subject's shards."""

    subject: int
    num_voxels: int
    shards: list[IndexedShard]

    @cached_property
    def samples(self) -> list[Sample]:
        """Samples of all shards."""
        return [sample for shard in self.shards for sample in shard.samples]

    @cached_property
    def num_trials(self) -> int:
        """Number of trials with an image."""
        return sum(len(sample.trials) for sample in self.samples)

    def design(self, trials_per_session: int) -> Design:
        """Return the behaviour `(T, 17)` with image, subject, session and test set; other columns are -1."""
        shown = [(sample, shard.split == TEST) for shard in self.shards for sample in shard.samples]
        trials = [(trial, sample.stimulus_id, is_test) for sample, is_test in shown for trial in sample.trials]
        numbers, stimulus_ids, is_test = np.array(trials).T
        count = numbers.max() // trials_per_session + 1
        sessions = np.repeat(np.arange(1, count + 1), trials_per_session)
        return Design.from_trials(self.subject, numbers, stimulus_ids, is_test, sessions)


def index_subject(source: MindEye1Layout, subject: int, settings: ConversionSettings) -> IndexedSubject:
    """Read the names and numbers of all samples of a subject.

    Raises a UserError if a shard is missing or invalid, an image or a trial occurs twice, a split has no sample, or the
    number of samples differs from the metadata file.
    """
    shards: list[IndexedShard] = []
    num_voxels = (settings.voxel_counts or {}).get(subject)
    for split, path in source.shards_of(subject):
        with Shard(path, source.fetch_command(path)) as shard:
            samples = read_samples(shard, repeated_slots=settings.repeated_slots, first_trial=settings.first_trial)
            if samples and not any(earlier.samples for earlier in shards):  # first sample of the subject
                num_voxels = shard.voxels(next(shard.grouped())[1][VOXELS], num_voxels).shape[1]
        shards.append(IndexedShard(split, path, samples))
    indexed = IndexedSubject(subject, num_voxels or 0, shards)
    for split in SPLITS:
        if not any(shard.samples for shard in shards if shard.split == split):
            path = next(shard.path for shard in shards if shard.split == split)
            raise UserError(f"no shard of {split} contains a sample", got=path, fix=source.fetch_command(path))
    _check_distinct(indexed)
    _check_totals(source, indexed)
    _warn_about_first_trial(indexed, settings)
    return indexed


def _check_distinct(indexed: IndexedSubject) -> None:
    locations: dict[int, str] = {}  # by image
    images: dict[int, int] = {}  # by trial
    for shard in indexed.shards:
        for sample in shard.samples:
            location = f"{shard.path}, sample {sample.name}"
            if sample.stimulus_id in locations:
                got = f"{location}; {locations[sample.stimulus_id]}"
                raise UserError(f"two samples of subject {indexed.subject} have image {sample.stimulus_id}", got=got)
            locations[sample.stimulus_id] = location
            for trial in sample.trials:
                if trial in images:
                    what = f"{location}: trial {trial} of subject {indexed.subject} already has another image"
                    raise UserError(what, got=sample.stimulus_id, expected=f"image {images[trial]}")
                images[trial] = sample.stimulus_id


def _check_totals(source: MindEye1Layout, indexed: IndexedSubject) -> None:
    """Compare the numbers of samples with the metadata file if it exists."""
    path = source.metadata(indexed.subject)
    if not path.is_file():
        return
    try:
        totals = read_json(path)["totals"]
        known = {split: int(totals[split]) for split in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"rm {path}, then {source.fetch_command(path)}"
        raise UserError(f"{path} has no totals", got=error, fix=fix) from error
    for split, number in known.items():
        count = sum(len(shard.samples) for shard in indexed.shards if shard.split == split)
        if count != number:
            what = f"the number of samples in {split} of subject {indexed.subject} differs from {path}"
            fix = "download them again, or correct data.shards (docs/data.md)"
            raise UserError(what, got=f"{count} samples", expected=number, fix=fix)


def _warn_about_first_trial(indexed: IndexedSubject, settings: ConversionSettings) -> None:
    """Print a hint if trials seem to be counted from 1, which would shift all sessions by one trial."""
    trials = {trial for sample in indexed.samples for trial in sample.trials}
    if min(trials) == 1 and max(trials) % settings.trials_per_session == 0:
        console.print(
            f"subject {indexed.subject}: the first trial is missing, and the last trial is {max(trials)}; "
            f"if the files count from {settings.first_trial + 1}, set data.first_trial={settings.first_trial + 1}"
        )
