"""Events tables of BIDS: which image each trial showed, in the order of the trials.

A table has tabs between its columns, `onset` in seconds and a column that names the image, `stim_file`. Rows without an
image (`n/a`) are no trials. A table of several subjects, sessions or runs has columns `subject`, `session` and `run`.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mindeye_pl.data.own.folder import ONLY, Recording, entity, is_same
from mindeye_pl.errors import UserError

_MISSING = ("", "n/a")
#: Columns of the subject and the session; other names that laboratories use.
_SUBJECT, _SESSION = ("subject", "participant_id", "sub"), ("session", "session_id", "ses")


@dataclass(frozen=True)
class ShownImage:
    """One trial: the label of its session and the name of its image, as the table has it."""

    session: str
    image: str


def read_trials(root: Path, subject: str, recording: Recording, image_column: str) -> list[ShownImage]:
    """Return the trials of a recording in the order of its betas.

    Raises a UserError if a table is no such table, its onsets are not in order, or there is no trial at all.
    """
    trials = [trial for path in recording.events for trial in _read_table(root, path, subject, recording, image_column)]
    if not trials:
        what = f"the events of {recording.betas.name} have no trial with an image"
        got = f"{len(recording.events)} tables, the first {recording.events[0]}"
        fix = f"own.image_column=COLUMN, if not {image_column} names the images"
        raise UserError(what, got=got, expected=f"rows with a file in {image_column}", fix=fix)
    if len(sessions := list(dict.fromkeys(trial.session for trial in trials))) > 1:
        ordered = [trial.session for trial in trials]
        if ordered != sorted(ordered, key=sessions.index):
            got = f"sessions {', '.join(sessions[:5])}"
            raise UserError(f"{recording.events[0]} mixes sessions", got=got, expected="one after the other")
    return trials


def _read_table(root: Path, path: Path, subject: str, recording: Recording, image_column: str) -> list[ShownImage]:
    header, rows = _read_rows(path)
    for column in ("onset", image_column):
        if column not in header:
            fix = "own.image_column=COLUMN" if column == image_column else f"a column {column}"
            got = ", ".join(header[:8]) or "an empty file"
            raise UserError(f"{path} has no column {column}", got=got, expected="a table with tabs", fix=fix)
    own = entity(root, path, "ses")
    trials, last = [], dict[tuple[str, str], float]()
    for number, row in enumerate(rows, start=2):
        session = _label(row, _SESSION, "ses-") or own or recording.session or ONLY
        if not is_same(_label(row, _SUBJECT, "sub-") or subject, subject):
            continue
        if recording.session is not None and not is_same(session, recording.session):
            continue
        if (image := row[image_column].strip()) in _MISSING:
            continue
        onset, run = _onset(path, number, row["onset"]), (session, row.get("run", ""))
        if onset < last.get(run, -math.inf):
            what, got = (
                f"{path} is not in the order of the trials",
                f"onset {onset:g} after {last[run]:g} in line {number}",
            )
            fix = "sort the table as the betas are, and give it a column run where onsets begin again"
            raise UserError(what, got=got, expected="ascending onsets", fix=fix)
        last[run] = onset
        trials.append(ShownImage(recording.session or session, image))
    return trials


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text", got=error.reason, expected="a table in UTF-8") from error
    header = [name.strip() for name in lines[0].split("\t")] if lines else []
    rows = []
    for number, cells in enumerate(csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{path} has an incomplete line", got=f"{len(cells)} cells in line {number}", expected=len(header)
            )
        rows.append(dict(zip(header, cells, strict=True)))
    return header, rows


def _onset(path: Path, number: int, text: str) -> float:
    try:
        onset = float(text)
    except ValueError:
        onset = math.nan
    if not math.isfinite(onset):
        raise UserError(f"{path} has an onset that is no number", got=f"{text!r} in line {number}", expected="seconds")
    return onset


def _label(row: dict[str, str], columns: Iterable[str], prefix: str) -> str | None:
    """Return the label in the first of some columns that the table has, with or without its prefix."""
    for column in columns:
        if (text := row.get(column, "").strip()) not in _MISSING:
            return text.removeprefix(prefix)
    return None
