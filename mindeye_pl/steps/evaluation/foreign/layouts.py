"""Folders in which other people publish reconstructions, and tables that name the stimulus of each image.

Brain-IT (WeizmannVision/brainit-fmri) writes a folder per subject, counted from 0: `enhanced/img_0000.png`, its final
images, beside `semantic` and `low_level`, and each of these as an array, `enhanced_recons.npy`; their order is that of
the NSD ids of the images that all subjects saw. CortexDecoder (teooi/cortexdecoder-nsd-flatmaps) has `final.zip`,
`lowlevel.zip` and `image_ids.csv`, which gives the file name and the NSD id, counted from 0, of each image.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindeye_pl.errors import UserError

#: Final images in a folder of several kinds of images, in the order in which they are looked for.
_FINAL = ("enhanced", "enhanced_recons.npy", "final", "final.zip")
#: Table of stimulus ids by file name.
_TABLE = "image_ids.csv"


def final_images(folder: Path) -> Path:
    """Return the final images of a published folder, or the folder itself if it is of no known layout."""
    return next((path for name in _FINAL if (path := folder / name).exists()), folder)


def table_beside(images: Path) -> Path | None:
    """Return the table of stimulus ids in a folder of images, or beside the folder or file; None without one."""
    folders = (images, images.parent) if images.is_dir() else (images.parent,)
    return next((path for folder in folders if (path := folder / _TABLE).is_file()), None)


def ids_of_table(path: Path, names: Sequence[str]) -> np.ndarray:
    """Return the stimulus id of each image `(M,)` from a table with a column of file names and a column of numbers.

    Raises:
        UserError: if the columns are others, a name is missing, or two rows name one image.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table", got=error) from error
    width = max(map(len, rows), default=0)
    columns = [[row[column].strip() if column < len(row) else "" for row in rows] for column in range(width)]
    of_names = [column for column in columns if set(map(_file_name, column)) & set(names)]
    of_ids = [column for column in columns if column not in of_names and _are_numbers(column)]
    if len(of_names) != 1 or len(of_ids) != 1:
        got = f"{len(of_names)} columns of the images' names and {len(of_ids)} of numbers"
        raise UserError(f"{path} names no stimuli", got=got, expected="a column of names and one of stimulus ids")
    found: dict[str, int] = {}
    for name, id_ in zip(map(_file_name, of_names[0]), of_ids[0], strict=True):
        if name in found:
            raise UserError(f"{path} has two rows of {name}", expected="one")
        if id_.isascii() and id_.isdecimal():
            found[name] = int(id_)
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{path} has no row of {missing[0]}", got=f"{len(missing)} missing", expected="one per image")
    return np.array([found[name] for name in names], np.int64)


def _file_name(cell: str) -> str:
    return cell.replace("\\", "/").rsplit("/", 1)[-1]


def _are_numbers(column: Sequence[str]) -> bool:
    """Return whether a column has numbers alone, perhaps below a header."""
    numbers = [cell.isascii() and cell.isdecimal() for cell in column]
    return len(column) > 1 and all(numbers[1:])
