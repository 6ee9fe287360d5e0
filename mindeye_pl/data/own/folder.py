"""Files of a study, found by the BIDS entities in their names: `sub-LABEL`, `ses-LABEL` and `run-LABEL`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.data.layout.shards import is_of_macos
from mindeye_pl.data.natural_order import natural_key
from mindeye_pl.errors import UserError

#: Suffixes of arrays of betas.
BETAS_SUFFIXES = (".npy", ".hdf5", ".h5", ".mat", ".nii", ".nii.gz")
#: Names that are looked for where the configuration gives none. Images can be many, so only folders of subjects and
#: the study's own folder are searched.
_BETAS = ("sub-*_betas.*", "sub-*/**/sub-*_betas.*", "sub-*/**/TYPED_FITHRF_GLMDENOISE_RR.*")
_EVENTS = ("*events.tsv", "sub-*/**/*_events.tsv")
_MASKS = ("*mask.nii", "*mask.nii.gz", "sub-*/**/*mask.nii", "sub-*/**/*mask.nii.gz")
_IMAGE_FOLDERS = ("stimuli", "images")

#: Label of the only subject, and of the only session, of files without one.
ONLY = "01"
TUTORIAL = "docs/tutorials/your_own_scanner.md"


@dataclass(frozen=True)
class Recording:
    """One array of betas, and the events tables of its trials in the order of their runs.

    Attributes:
        session: its label; None where the array holds all sessions of the subject.
        betas: path of the array.
        events: paths of the tables.
    """

    session: str | None
    betas: Path
    events: tuple[Path, ...]


@dataclass(frozen=True)
class SubjectFiles:
    """Files of one subject: its label, its recordings in the order of the sessions, and the mask of its voxels."""

    label: str
    recordings: tuple[Recording, ...]
    mask: Path | None


@dataclass(frozen=True)
class StudyFolder:
    """Where the files of a study are.

    Attributes:
        path: folder of the study; the patterns are relative to it.
        betas: file or pattern of the betas; None for `sub-*_betas.*` and GLMsingle's own name.
        events: file or pattern of the events tables; None for `*events.tsv`.
        images: folder of the images; None for `stimuli` or `images`.
        mask: file or pattern of the masks; None for `*mask.nii.gz`, if there is one.
    """

    path: Path
    betas: str | None = None
    events: str | None = None
    images: str | None = None
    mask: str | None = None

    def image_folder(self) -> Path:
        """Return the folder of the images; raises a UserError if it is missing."""
        names = _IMAGE_FOLDERS if self.images is None else (self.images,)
        found = [self.path / name for name in names if (self.path / name).is_dir()]
        if not found:
            got = " and ".join(str(self.path / name) for name in names)
            raise UserError("the folder of the images is missing", got=f"no {got}", fix="own.images=FOLDER")
        return found[0]

    def subject_labels(self) -> list[str]:
        """Return the labels of the subjects with betas, in order; empty where there are none."""
        return sorted({subject_label(self.path, path) or ONLY for path in self._betas_files()}, key=natural_key)

    def subjects(self) -> list[SubjectFiles]:
        """Return the files of all subjects, in the order of their labels.

        Raises a UserError if there are no betas, a session occurs twice, or a recording has no events table.
        """
        betas = self._betas_files()
        if not betas:
            got = f"no {self.betas or ' or '.join(_BETAS[:2])} in {self.path}"
            fix = f"own.betas=PATTERN, or other names ({TUTORIAL})"
            raise UserError("no betas were found", got=got, expected=f"files of {', '.join(BETAS_SUFFIXES)}", fix=fix)
        if len(betas) > 1 and (unnamed := [path for path in betas if subject_label(self.path, path) is None]):
            fix = f"name it sub-LABEL_ses-LABEL_betas{unnamed[0].suffix}"
            raise UserError(f"{unnamed[0]} has no subject in its name", expected="sub-LABEL", fix=fix)
        return [self._files_of(label, betas) for label in self.subject_labels()]

    def _files_of(self, label: str, betas: Iterable[Path]) -> SubjectFiles:
        by_session: dict[str | None, Path] = {}
        for path in betas:
            if (subject_label(self.path, path) or ONLY) == label:
                session = entity(self.path, path, "ses")
                if session in by_session:
                    what = f"sub-{label}{f' ses-{session}' if session else ''} has betas twice"
                    got = f"{by_session[session]} and {path}"
                    raise UserError(what, got=got, expected="one file of a session", fix="own.betas=PATTERN")
                by_session[session] = path
        if None in by_session and len(by_session) > 1:
            what = f"{by_session[None]} has no session in its name, and other files of sub-{label} have one"
            raise UserError(what, expected="ses-LABEL in all names, or one file of all sessions")
        ordered = sorted(by_session.items(), key=lambda item: natural_key(item[0] or ""))
        events = self._of_subject(label, self._found(self.events, _EVENTS))
        recordings = [
            Recording(session, path, self._events_of(label, session, events, len(ordered) == 1))
            for session, path in ordered
        ]
        return SubjectFiles(label, tuple(recordings), self._mask_of(label))

    def _events_of(
        self, label: str, session: str | None, events: Sequence[Path], only_session: bool
    ) -> tuple[Path, ...]:
        """Return the events tables of a recording in the order of sessions and runs; a UserError if there are none."""
        named = {path: entity(self.path, path, "ses") for path in events}
        chosen = [path for path, own in named.items() if session is None or is_same(own, session)]
        if not chosen:  # a table of all sessions
            chosen = [path for path, own in named.items() if own is None and (only_session or not _is_of_run(path))]
        if not chosen:
            name = f"sub-{label}{f'_ses-{session}' if session else ''}"
            got = f"no {self.events or f'{name}_*_events.tsv'} in {self.path}"
            raise UserError(f"{name} has betas and no events table", got=got, fix=f"own.events=PATTERN ({TUTORIAL})")
        return tuple(sorted(chosen, key=lambda path: (natural_key(named[path] or ""), natural_key(path.name))))

    def _mask_of(self, label: str) -> Path | None:
        masks = self._of_subject(label, self._found(self.mask, _MASKS))
        if self.mask is not None and not masks:
            raise UserError(f"sub-{label} has no mask", got=f"own.mask={self.mask}", fix="own.mask=PATTERN, or null")
        if len(masks) > 1:
            got = f"{masks[0]} and {masks[1]}"
            raise UserError(f"sub-{label} has more than one mask", got=got, expected="one", fix="own.mask=PATTERN")
        return masks[0] if masks else None

    def _of_subject(self, label: str, paths: Sequence[Path]) -> list[Path]:
        """Return the files of a subject; those without a subject in their names where it has none of its own."""
        named = {path: subject_label(self.path, path) for path in paths}
        own = [path for path, subject in named.items() if is_same(subject, label)]
        return own or [path for path, subject in named.items() if subject is None]

    def _betas_files(self) -> list[Path]:
        return [path for path in self._found(self.betas, _BETAS) if path.name.endswith(BETAS_SUFFIXES)]

    def _found(self, given: str | None, names: Sequence[str]) -> list[Path]:
        """Return the files of a pattern, or of the usual names, sorted."""
        patterns = names if given is None else (given,)
        found = {path for one in patterns for path in _matches(self.path, one)}
        return sorted(path for path in found if path.is_file() and not is_of_macos(path.name))


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    if Path(pattern).is_absolute():
        anchor = Path(pattern).anchor
        return Path(anchor).glob(pattern.removeprefix(anchor))
    return root.glob(pattern)


def subject_label(root: Path, path: Path) -> str | None:
    """Return the label of the subject in a file's name, or in the folders below `root`; None where there is none."""
    return entity(root, path, "sub")


def entity(root: Path, path: Path, name: str) -> str | None:
    """Return the last value of an entity (`sub`, `ses`, `run`) in a path below `root`, None where there is none."""
    below = path.relative_to(root) if path.is_relative_to(root) else path
    found = re.findall(rf"(?:^|[_/]){name}-([A-Za-z0-9]+)", below.as_posix())
    return found[-1] if found else None


def is_same(label: str | None, other: str) -> bool:
    """Return whether two labels are the same; `1` and `01` are."""
    return label is not None and natural_key(label) == natural_key(other)


def _is_of_run(path: Path) -> bool:
    return re.search(r"(?:^|_)run-[A-Za-z0-9]+", path.name) is not None
