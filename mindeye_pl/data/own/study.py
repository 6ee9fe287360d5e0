"""Plan of a study: its subjects, sessions and images, checked against each other without reading the betas.

Legend: V voxels of the arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from mindeye_pl.data.own.arrays import BetasFile
from mindeye_pl.data.own.events import ShownImage, read_trials
from mindeye_pl.data.own.folder import StudyFolder, SubjectFiles
from mindeye_pl.data.own.images import check_images, find_images
from mindeye_pl.data.own.nifti import Mask
from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class Session:
    """Trials of one session.

    Attributes:
        label: of BIDS.
        file: array with the betas.
        rows: trials of the array.
        images: names of the images, one per trial.
    """

    label: str
    file: BetasFile
    rows: slice
    images: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        label: of BIDS.
        sessions: in order.
        voxels: indices of the voxels that the mask selects in the arrays, ascending int64; all without a mask.
        positions: of these voxels in C order of the volume; None where the volume is not known.
        volume: X, Y, Z.
        affine: `(4, 4)` in mm, None where it is not known.
    """

    label: str
    sessions: tuple[Session, ...]
    voxels: np.ndarray
    positions: np.ndarray | None
    volume: tuple[int, ...] | None
    affine: np.ndarray | None

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"sub-{self.label}"

    @property
    def images(self) -> list[str]:
        """Names of the images of all trials in order."""
        return [name for session in self.sessions for name in session.images]

    @property
    def session_numbers(self) -> np.ndarray:
        """Number of each trial's session from 1, `(T,)` int64."""
        return np.repeat(np.arange(len(self.sessions)) + 1, [len(session.images) for session in self.sessions])


@dataclass(frozen=True)
class Study:
    """All subjects in the order of their numbers, and the image file of each name in the events."""

    subjects: tuple[Subject, ...]
    images: dict[str, Path]


def plan_study(folder: StudyFolder, *, image_column: str, dataset: str | None = None) -> Study:
    """Find and check all files of a study but the values of the betas and the pixels of the images.

    Raises a UserError for the first file that is missing, damaged or does not fit another one.
    """
    subjects = tuple(_plan_subject(folder, files, image_column, dataset) for files in folder.subjects())
    images = find_images(folder.image_folder(), (name for subject in subjects for name in subject.images))
    check_images(images.values())
    return Study(subjects, images)


def study_files(folder: StudyFolder) -> Iterator[tuple[str, Path]]:
    """Yield all files of a study but its images, each with its name below the folder."""
    for subject in folder.subjects():
        files = [path for recording in subject.recordings for path in (recording.betas, *recording.events)]
        for path in dict.fromkeys([*files, *([subject.mask] if subject.mask else [])]):
            yield (path.relative_to(folder.path) if path.is_relative_to(folder.path) else path).as_posix(), path


def _plan_subject(folder: StudyFolder, files: SubjectFiles, image_column: str, dataset: str | None) -> Subject:
    sessions: list[Session] = []
    for recording in files.recordings:
        trials = read_trials(folder.path, files.label, recording, image_column)
        betas, first = BetasFile.of(recording.betas, len(trials), dataset), 0
        for label, group in groupby(trials, key=_session_of):
            images = tuple(trial.image for trial in group)
            sessions.append(Session(label, betas, slice(first, first + len(images)), images))
            first += len(images)
    _check_alike(sessions)
    return _with_mask(files, tuple(sessions))


def _session_of(trial: ShownImage) -> str:
    return trial.session


def _check_alike(sessions: list[Session]) -> None:
    """Raise a UserError if sessions have other voxels than the first one."""
    first = sessions[0].file
    for file in (session.file for session in sessions):
        if (file.num_voxels, file.volume) != (first.num_voxels, first.volume):
            what, got = f"{file.path} has other voxels than {first.path}", file.volume or f"{file.num_voxels} voxels"
            fix = "betas of all sessions in one space, with one mask"
            raise UserError(what, got=got, expected=first.volume or f"{first.num_voxels} voxels", fix=fix)


def _with_mask(files: SubjectFiles, sessions: tuple[Session, ...]) -> Subject:
    file = sessions[0].file
    if files.mask is None:
        voxels = np.arange(file.num_voxels)
        positions = None if file.volume is None else voxels
        return Subject(files.label, sessions, voxels, positions, file.volume, file.affine)
    mask = Mask.read(files.mask)
    for session in sessions:
        if session.file.affine is not None:
            mask.check_affine(session.file.affine, session.file.path)
    if file.volume == mask.chosen.shape or (file.volume is None and file.num_voxels == mask.chosen.size):
        voxels = mask.positions
    elif file.volume is None and file.num_voxels == len(mask.positions):
        voxels = np.arange(file.num_voxels)  # the array holds the mask's voxels alone
    else:
        got = f"{mask.chosen.shape} with {len(mask.positions)} voxels above 0"
        expected = f"{file.volume or f'{file.num_voxels} voxels'} of {file.path}"
        raise UserError(f"{files.mask} does not fit the betas", got=got, expected=expected, fix="own.mask=FILE")
    return Subject(files.label, sessions, voxels, mask.positions, mask.chosen.shape, mask.affine)
