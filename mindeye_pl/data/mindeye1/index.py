"""Index of a subject's MindEye1 files, read without voxels and images, and checked for consistency.

Legend: V voxels of the subject's nsdgeneral mask, T trials: sessions times trials per session.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.mindeye1.layout import SPLITS, TEST, MindEye1Layout
from mindeye_pl.data.mindeye1.samples import BOTH, VOXELS, Sample, Shard, read_samples
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.design import Design
from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class ConversionSettings:
    """Conventions that the source files do not state.

    Attributes:
        trials_per_session: 750 in NSD; trial // trials_per_session is the session.
        repeated_slots: rule that distinguishes repetitions from duplicated slots: distinct `trial` numbers, the first
            `num_uniques` slots, or `both`, which must agree.
        first_trial: number of a subject's first trial, 0 or 1.
        voxel_counts: V of each subject; None uses the number in the first sample.
    """

    trials_per_session: int = nsd.TRIALS_PER_SESSION
    repeated_slots: str = BOTH
    first_trial: int = 0
    voxel_counts: Mapping[int, int] | None = None


@dataclass(frozen=True)
class IndexedShard:
    """A source shard and its samples."""

    split: str
    path: Path
    samples: list[Sample]


@dataclass(frozen=True)
class IndexedSubject:
    """Index of a subject's shards.

    Attributes:
        num_voxels: V.
    """

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
        trials = [
            (trial, sample.stimulus_id, shard.split == TEST)
            for shard in self.shards
            for sample in shard.samples
            for trial in sample.trials
        ]
        numbers, stimulus_ids, is_test = np.array(trials).T
        return Design.from_trials(self.subject, numbers, stimulus_ids, is_test, trials_per_session)


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
        totals = json.loads(path.read_text())["totals"]
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
