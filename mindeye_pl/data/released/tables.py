"""Tables of text, comma or tab separated, as lists of rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.errors import UserError
from mindeye_pl.store.regular_files import check_regular


def read_table(path: Path, columns: Sequence[str], delimiter: str = ",") -> dict[str, list[str]]:
    """Return every column of a table by its name.

    Raises a UserError if the file is missing, one of the given columns is, or rows differ in length.
    """
    with _existing(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        names = next(reader, [])
        rows = [row for row in reader if row]
    if missing := [name for name in columns if name not in names]:
        raise UserError(f"{path} has no column {missing[0]}", got=names[:8], expected=list(columns))
    if wrong := [number for number, row in enumerate(rows, start=2) if len(row) != len(names)]:
        raise UserError(f"{path}, row {wrong[0]}: other columns than in the first row", expected=len(names))
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


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
