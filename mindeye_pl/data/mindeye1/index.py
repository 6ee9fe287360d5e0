"""What MindEye1's files hold of a subject, read without voxels and images, and whether it is of one piece.

Legend: V voxels of the subject's nsdgeneral mask, T its trials: sessions times trials per session.
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
from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.design import Design
from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class ConversionSettings:
    """What the source files do not say of themselves.

    Attributes:
        trials_per_session: 750 in NSD; trial // trials_per_session is the session.
        repeated_slots: what tells a repetition from a slot that was filled with another one: their `trial` numbers,
            the first `num_uniques` slots, or `both`, which must agree.
        first_trial: number of a subject's first trial, 0 or 1.
        voxel_counts: V of each subject; None takes what its first sample has.
    """

    trials_per_session: int = nsd.TRIALS_PER_SESSION
    repeated_slots: str = BOTH
    first_trial: int = 0
    voxel_counts: Mapping[int, int] | None = None


@dataclass(frozen=True)
class Part:
    """A shard of the source and what it holds."""

    split: str
    path: Path
    samples: list[Sample]


@dataclass(frozen=True)
class IndexedSubject:
    """All that is known of a subject without its responses.

    Attributes:
        subject: 1, 2, 5 or 7.
        num_voxels: V.
        parts: its shards.
    """

    subject: int
    num_voxels: int
    parts: list[Part]

    @cached_property
    def samples(self) -> list[Sample]:
        """Of all shards."""
        return [sample for part in self.parts for sample in part.samples]

    @cached_property
    def num_trials(self) -> int:
        """Trials that have an image."""
        return sum(len(sample.trials) for sample in self.samples)

    def design(self, trials_per_session: int) -> Design:
        """Behaviour `(T, 17)`: image, subject, session and test set are known, and all else is -1, not recorded."""
        trials = np.array([trial for sample in self.samples for trial in sample.trials])
        sessions = trials.max() // trials_per_session + 1
        behaviour = np.full((sessions * trials_per_session, len(Behaviour)), -1.0)
        for part in self.parts:
            for sample in part.samples:
                rows = np.array(sample.trials)
                behaviour[rows, Behaviour.STIMULUS] = sample.stimulus_id
                behaviour[rows, Behaviour.IS_SHARED1000] = part.split == TEST
        behaviour[trials, Behaviour.SUBJECT] = self.subject
        behaviour[trials, Behaviour.SESSION] = trials // trials_per_session + 1
        behaviour[trials, Behaviour.BETA_ROW] = trials
        return Design(behaviour, trials_per_session)


def index_subject(source: MindEye1Layout, subject: int, settings: ConversionSettings) -> IndexedSubject:
    """Reads the names and numbers of all samples of a subject.

    Args:
        source: MindEye1's files.
        subject: 1, 2, 5 or 7.
        settings: what the files do not say.

    Raises:
        UserError: if a shard is missing or cut off, a sample lacks something, or two of them contradict each other.
    """
    parts: list[Part] = []
    num_voxels = (settings.voxel_counts or {}).get(subject)
    for split, path in source.shards_of(subject):
        with Shard(path, source.fetch(path)) as shard:
            samples = read_samples(shard, repeated_slots=settings.repeated_slots, first_trial=settings.first_trial)
            if samples and not any(part.samples for part in parts):  # the first of all, before room is taken for them
                num_voxels = shard.voxels(next(shard.grouped())[1][VOXELS], num_voxels).shape[1]
        parts.append(Part(split, path, samples))
    one = IndexedSubject(subject, num_voxels or 0, parts)
    for split in SPLITS:
        if not any(part.samples for part in parts if part.split == split):
            path = next(part.path for part in parts if part.split == split)
            raise UserError(f"{path} and the other shards of {split} hold no sample", fix=source.fetch(path))
    _check_named_once(one)
    _check_totals(source, one)
    _hint_at_first_trial(one, settings)
    return one


def _check_named_once(one: IndexedSubject) -> None:
    images: dict[int, str] = {}
    showed: dict[int, int] = {}
    for part in one.parts:
        for sample in part.samples:
            place = f"{part.path}, sample {sample.name}"
            if sample.stimulus_id in images:
                seen = f"{place}; {images[sample.stimulus_id]}"
                raise UserError(f"two samples of subject {one.subject} have image {sample.stimulus_id}", got=seen)
            images[sample.stimulus_id] = place
            for trial in sample.trials:
                if trial in showed:
                    raise UserError(
                        f"{place}: trial {trial} of subject {one.subject} showed another image",
                        got=sample.stimulus_id,
                        expected=f"image {showed[trial]} alone",
                    )
                showed[trial] = sample.stimulus_id


def _check_totals(source: MindEye1Layout, one: IndexedSubject) -> None:
    """The numbers of samples are those of the metadata, where this lies beside the shards."""
    path = source.metadata(one.subject)
    if not path.is_file():
        return
    try:
        totals = json.loads(path.read_text())["totals"]
        known = {split: int(totals[split]) for split in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"rm {path}, then {source.fetch(path)}"
        raise UserError(f"{path} does not tell the totals", got=error, fix=fix) from error
    for split, number in known.items():
        seen = sum(len(part.samples) for part in one.parts if part.split == split)
        if seen != number:
            raise UserError(
                f"the shards of {split} of subject {one.subject} are not those of {path}",
                got=f"{seen} samples",
                expected=number,
                fix="fetch them again, or correct data.shards (docs/data.md)",
            )


def _hint_at_first_trial(one: IndexedSubject, settings: ConversionSettings) -> None:
    """Says so where trials look as if they were counted from 1: sessions would begin one trial too late."""
    trials = {trial for sample in one.samples for trial in sample.trials}
    if min(trials) == 1 and max(trials) % settings.trials_per_session == 0:
        console.print(
            f"subject {one.subject}: no sample names its first trial, and one names trial {max(trials)}; "
            f"if the files count from {settings.first_trial + 1}, use data.first_trial={settings.first_trial + 1}"
        )
