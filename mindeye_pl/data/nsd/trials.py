"""Trials of NSD's release: the designed order of the images, and what each subject did.

Sources: NSD data manual, "Experiments" and "Behavioral data"; order and missing values of the columns are those of
MindEye2 (spec of MindEye2, section 1.2).

Legend: T trials of a subject, N images of the experiment.
"""

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.design import Design
from mindeye_pl.data.nsd.release import NsdRelease
from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular

#: Columns of `responses.tsv` that are kept.
_COLUMNS = {
    "SUBJECT": Behaviour.SUBJECT,
    "SESSION": Behaviour.SESSION,
    "RUN": Behaviour.RUN,
    "TRIAL": Behaviour.TRIAL,
    "73KID": Behaviour.STIMULUS,  # from 1
    "TIME": Behaviour.TIME,
    "ISOLD": Behaviour.IS_OLD,
    "ISCORRECT": Behaviour.IS_CORRECT,
    "RT": Behaviour.REACTION_TIME,
    "CHANGEMIND": Behaviour.CHANGE_MIND,
    "ISOLDCURRENT": Behaviour.IS_OLD_CURRENT,
    "ISCORRECTCURRENT": Behaviour.IS_CORRECT_CURRENT,
    "TOTAL1": Behaviour.TOTAL_1,
    "TOTAL2": Behaviour.TOTAL_2,
    "BUTTON": Behaviour.BUTTON,
}
_NEVER_MISSING = ("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID")

_EXPECTED = "arrays masterordering, subjectim and sharedix of whole numbers from 1, MATLAB's format before 7.3"


@dataclass(frozen=True)
class ExperimentDesign:
    """Order of the images; ids are 73K ids from 0."""

    order: np.ndarray  # (trials,) int64, image of each trial among a subject's own, the same for all subjects
    images: np.ndarray  # (subjects, images) int64, each subject's images
    shared: np.ndarray  # (shared,) int64, images that all subjects see: the test set

    def stimulus_ids(self, subject: int) -> np.ndarray:
        """Return the image of each designed trial of a subject, `(trials,)` int64."""
        return self.images[subject - 1, self.order]


def read_experiment(path: Path) -> ExperimentDesign:
    """Read NSD's design; raises a UserError if the file is damaged or holds something else."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    names = ("masterordering", "subjectim", "sharedix")
    try:
        arrays = loadmat(check_regular(path), variable_names=names)
    except NotImplementedError as error:
        fix = "download NSD's own file again, or save it with -v7 in MATLAB"
        raise UserError(f"{path} is a file of MATLAB 7.3", got=error, expected=_EXPECTED, fix=fix) from error
    except (MatReadError, OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or no MATLAB file", got=error, expected=_EXPECTED) from error
    for name in names:
        found = arrays.get(name)
        if found is None:
            present = sorted(key for key in arrays if not key.startswith("__"))
            raise UserError(f"{path} has no array {name}", got=present, expected=_EXPECTED)
        if found.dtype.kind not in "iuf" or not (found >= 1).all() or (found != np.floor(found)).any():
            raise UserError(f"{path}: {name} is no array of numbers from 1", got=found.dtype, expected=_EXPECTED)
    order, images, shared = (arrays[name].astype(np.int64) - 1 for name in names)
    if order.max(initial=0) >= images.shape[1]:
        got = f"masterordering up to {order.max() + 1}, subjectim {images.shape}"
        raise UserError(f"{path}: masterordering names images that subjectim does not have", got=got)
    return ExperimentDesign(order.ravel(), images, shared.ravel())


def read_trials(
    release: NsdRelease, subject: int, experiment: ExperimentDesign, *, num_sessions: int, trials_per_session: int
) -> Design:
    """Read the trials of a subject's first sessions, and check them against the design.

    Missing values are -1 and the time is whole days, as in MindEye2's files. Raises a UserError if a column, a row or a
    necessary value is missing, or a trial shows another image than the designed one.
    """
    path = release.responses(subject)
    rows = [row for row in _rows(release, path) if row[Behaviour.SESSION] <= num_sessions]
    behaviour = np.array(rows).reshape(-1, len(Behaviour))  # (T, 17)
    sessions = behaviour[:, Behaviour.SESSION].astype(np.int64)
    expected = np.repeat(np.arange(num_sessions) + 1, trials_per_session)
    if not np.array_equal(sessions, expected):
        counts = np.bincount(sessions, minlength=num_sessions + 1)[1:]
        wrong = np.flatnonzero(counts != trials_per_session)
        got = f"{counts[wrong[0]]} rows of session {wrong[0] + 1}" if len(wrong) else "sessions out of order"
        raise UserError(f"{path} is incomplete", got=got, expected=f"{trials_per_session} rows of each, in order")
    if (other := behaviour[:, Behaviour.SUBJECT] != subject).any():
        got = f"subject {behaviour[np.argmax(other), Behaviour.SUBJECT]:g}"
        raise UserError(f"{path} is of another subject", got=got, expected=f"subject {subject}")
    _check_images(path, behaviour[:, Behaviour.STIMULUS], experiment, subject)
    behaviour[:, Behaviour.STIMULUS] -= 1
    behaviour[:, Behaviour.BETA_ROW] = np.arange(len(behaviour))
    behaviour[:, Behaviour.IS_SHARED1000] = np.isin(behaviour[:, Behaviour.STIMULUS], experiment.shared)
    known = behaviour[:, Behaviour.TIME] != -1
    behaviour[known, Behaviour.TIME] = np.floor(behaviour[known, Behaviour.TIME])
    return Design(behaviour, sessions)


def _rows(release: NsdRelease, path: Path) -> Iterator[np.ndarray]:
    """Yield the kept columns of each trial, `(17,)` float64, -1 for missing values."""
    fix = release.fetch_command(path)
    try:
        with check_regular(path).open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, delimiter="\t")
            if missing := [name for name in _COLUMNS if name not in (table.fieldnames or ())]:
                raise UserError(f"{path} has no column {missing[0]}", got=table.fieldnames, fix=fix)
            for number, found in enumerate(table, start=2):
                row = np.full(len(Behaviour), -1.0)
                for name, column in _COLUMNS.items():
                    text = found[name]
                    value = float("nan" if text is None or not text.strip() else text)
                    if np.isfinite(value):
                        row[column] = value
                    elif name in _NEVER_MISSING:
                        raise UserError(f"{path}, line {number}: {name} is missing", got=text, fix=fix)
                yield row
    except (ValueError, csv.Error) as error:  # no number, no UTF-8
        raise UserError(f"{path} is not a table of numbers divided by tabs", got=error, fix=fix) from error


def _check_images(path: Path, ids: np.ndarray, experiment: ExperimentDesign, subject: int) -> None:
    """Compare 73K ids from 1 `(T,)` with the design."""
    if subject > len(experiment.images):
        raise UserError(f"NSD's design has no subject {subject}", expected=f"1 to {len(experiment.images)}")
    designed = experiment.stimulus_ids(subject) + 1
    if len(ids) > len(designed):
        raise UserError(f"{path} has more trials than NSD's design", got=len(ids), expected=f"up to {len(designed)}")
    if (other := ids != designed[: len(ids)]).any():
        trial = int(np.argmax(other))
        what = f"{path}, line {trial + 2}: 73KID is not the designed image"
        fix = "responses.tsv and nsd_expdesign.mat of the same release, both with ids from 1"
        raise UserError(what, got=f"{ids[trial]:g}", expected=int(designed[trial]), fix=fix)
