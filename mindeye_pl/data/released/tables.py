"""Tables of text, comma or tab separated, as lists of rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ",", *, optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return columns of a table by name, and optional ones where they exist; others are not kept in memory.

    Raises a UserError if the file is missing, one of the columns is, or rows differ in length.
    """
    with _existing(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        names = next(reader, [])
        if missing := [name for name in columns if name not in names]:
            raise UserError(f"{path} has no column {missing[0]}", got=names[:8], expected=list(columns))
        kept = {name: names.index(name) for name in (*columns, *optional) if name in names}
        found: dict[str, list[str]] = {name: [] for name in kept}
        for number, row in enumerate(reader, start=2):
            if row and len(row) != len(names):
                raise UserError(f"{path}, row {number}: another number of columns", got=len(row), expected=len(names))
            for name, index in kept.items() if row else ():
                found[name].append(row[index])
    return found


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without blanks at their ends and without empty ones."""
    return [line for each in _existing(path).read_text("utf-8").splitlines() if (line := each.strip())]


def numbers(path: Path, name: str, values: Sequence[str]) -> np.ndarray:
    """Return a column as `(n,)` float64, NaN for an empty value; a UserError for one that is no number."""
    try:
        return np.array([float(value or "nan") for value in values])
    except ValueError as error:
        raise UserError(f"{path}: column {name} holds no numbers", got=error) from error


def _existing(path: Path) -> Path:
    if not check_regular(path).is_file():
        raise UserError(f"{path} is missing", expected="a table or a list")
    return path
