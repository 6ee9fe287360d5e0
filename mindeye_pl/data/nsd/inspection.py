"""Checks of NSD's release before anything long begins: of every table, mask and header, no response and no image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.nsd.masks import mask_files, named_masks, read_mask
from mindeye_pl.data.nsd.release import NSD_GENERAL, VISUAL_AREAS, NsdRelease
from mindeye_pl.data.nsd.stimuli import count_stimuli
from mindeye_pl.data.nsd.trials import read_experiment, read_trials
from mindeye_pl.data.nsd.volumes import Volume, open_session, read_volume
from mindeye_pl.data.nsd.zscore import ZScore
from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class PreparationSettings:
    """Options of the preparation.

    Attributes:
        zscore: which trials a voxel's mean and standard deviation are of.
        zscore_sessions: sessions from 1 whose training trials these are, for `train_sessions_only`.
        mask: names of NSD's masks and paths of the user's own, of which a voxel is in any; or `("all_finite",)`.
        max_sessions: first sessions of each subject that are prepared; None for all.
        trials_per_session: number of trials of each session.
    """

    zscore: ZScore = "exclude_shared1000"
    zscore_sessions: tuple[int, ...] = (1,)
    mask: tuple[str, ...] = (NSD_GENERAL,)
    max_sessions: int | None = None
    trials_per_session: int = 750


@dataclass(frozen=True)
class InspectedSubject:
    """One subject, ready to be prepared."""

    subject: int
    design: Design
    sessions: list[Path]  # files of the responses
    mask: np.ndarray | None  # (X, Y, Z) bool; None for the voxels that vary in every session
    general: Volume
    areas: np.ndarray  # (X, Y, Z) labels of V1 to V4
    ncsnr: np.ndarray  # (X, Y, Z)


def files_below(release: NsdRelease, subjects: Sequence[int], settings: PreparationSettings) -> list[Path]:
    """Return all files below the release's root that are read; a UserError if one is missing, or is no file."""
    files = [release.design, release.stimuli]
    for subject in subjects:
        count = _count_sessions(release, subject, settings)
        files += release.files_of(subject, count, named_masks(settings.mask))
    return [*map(release.required, files), *release.caption_files()]


def own_masks(subjects: Sequence[int], settings: PreparationSettings) -> list[Path]:
    """Return the user's own masks of all subjects, which may lie anywhere; a UserError if one is missing."""
    files = [path for subject in subjects for path in mask_files(settings.mask, subject)]
    if missing := [path for path in files if not path.is_file()]:
        raise UserError(f"{missing[0]} is missing", expected="a NIfTI mask", fix="another data.mask (docs/data.md)")
    return files


def inspect_release(
    release: NsdRelease, subjects: Sequence[int], settings: PreparationSettings
) -> tuple[list[InspectedSubject], int]:
    """Check all files, and return the subjects and the number of images.

    Raises a UserError if a file is missing or damaged, files do not fit each other, or a setting does not fit them.
    """
    files_below(release, subjects, settings)
    own_masks(subjects, settings)
    experiment, num_stimuli = read_experiment(release.design), count_stimuli(release.stimuli)
    inspected = []
    for subject in subjects:
        count = _count_sessions(release, subject, settings)
        design = read_trials(
            release, subject, experiment, num_sessions=count, trials_per_session=settings.trials_per_session
        )
        if design.stimulus_ids.max() >= num_stimuli:
            what = f"{release.responses(subject)} names an image that {release.stimuli} does not have"
            raise UserError(what, got=f"73KID {design.stimulus_ids.max() + 1}", expected=f"1 to {num_stimuli}")
        _check_zscore(design, subject, settings)
        inspected.append(_inspect_subject(release, subject, design, settings))
    return inspected, num_stimuli


def _count_sessions(release: NsdRelease, subject: int, settings: PreparationSettings) -> int:
    existing = release.num_sessions(subject)
    return existing if settings.max_sessions is None else min(existing, settings.max_sessions)


def _check_zscore(design: Design, subject: int, settings: PreparationSettings) -> None:
    trained = set(design.sessions[design.training_trials].tolist())
    needed: Sequence[int] = ()
    if settings.zscore == "exclude_shared1000":
        needed = range(1, design.num_sessions + 1)
    elif settings.zscore == "train_sessions_only":
        needed = settings.zscore_sessions
        if not needed:
            raise UserError(
                "data.zscore_sessions is empty", got="[]", expected="sessions from 1", fix="data.zscore_sessions=[1]"
            )
    if missing := sorted(set(needed) - trained):
        what = f"data.zscore={settings.zscore}: subject {subject} has no training trial in a session"
        raise UserError(what, got=f"session {missing[0]}", expected=f"some of 1 to {design.num_sessions}")


def _inspect_subject(
    release: NsdRelease, subject: int, design: Design, settings: PreparationSettings
) -> InspectedSubject:
    general = read_volume(release.roi(subject, NSD_GENERAL))
    mask = read_mask(release, subject, settings.mask, general)
    others = []
    for path in (release.roi(subject, VISUAL_AREAS), release.ncsnr(subject)):
        volume = read_volume(path)
        general.check_same_space(path, volume.values.shape, volume.affine)
        others.append(volume.values)
    sessions = [release.betas(subject, session + 1) for session in range(design.num_sessions)]
    for path in sessions:
        session = open_session(path)
        general.check_same_space(path, session.shape, session.affine)
        if session.num_trials != settings.trials_per_session:
            expected = f"{settings.trials_per_session}, data.trials_per_session"
            raise UserError(f"{path} has another number of trials", got=session.num_trials, expected=expected)
    return InspectedSubject(subject, design, sessions, mask, general, *others)
