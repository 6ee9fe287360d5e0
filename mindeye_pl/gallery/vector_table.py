"""A gallery whose images were embedded elsewhere: a table of vectors, `.npy` or hdf5.

Legend: n places asked for, N rows of the table, F width of a vector.
"""

import json
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.console import console
from mindeye_pl.data.nsd.hdf5 import open_dataset, read_rows
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.source import Portion, keep_finite
from mindeye_pl.store.fingerprint import fingerprint_file

#: The dataset of an hdf5 file that holds the vectors.
DATASET = "vectors"


class VectorTable:
    """Rows of a `.npy` file, read through a memory map, or of the dataset `vectors` of an hdf5 file.

    A file `NAME.json` beside `NAME.npy` with the entry `embedder` says whose vectors they are, and is held to it.

    Args:
        path: of the table.

    Raises:
        UserError: if it is missing, damaged, empty or holds something else.
    """

    holds_images = False

    def __init__(self, path: Path):
        self.path = path
        wanted = "a table (N, F) of floating-point numbers"
        try:
            shape, dtype = self._shape_and_type()
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is no whole table of vectors", got=error, expected=wanted) from error
        if len(shape) != 2 or not np.issubdtype(dtype, np.floating):
            raise UserError(f"{path} holds no vectors", got=f"{shape} {dtype}", expected=wanted)
        if 0 in shape:
            raise UserError("the gallery is empty", got=f"{shape} in {path}", expected="one vector or more")
        self._count, self.width = shape

    def _shape_and_type(self) -> tuple[tuple[int, ...], np.dtype]:
        if self.path.suffix == ".npy":
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            return mapped.shape, mapped.dtype
        with open_dataset(self.path, DATASET) as vectors:
            return vectors.shape, vectors.dtype

    def __len__(self) -> int:
        return self._count

    def names(self, places: np.ndarray) -> list[str]:
        """The row and the file."""
        return [f"row {place} of {self.path.name}" for place in places.tolist()]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`; what holds NaN, infinity or only zeros is not readable."""
        if self.path.suffix == ".npy":
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)[places]
        else:
            with open_dataset(self.path, DATASET) as vectors:
                rows = read_rows(vectors, places)
        return keep_finite(places, self.names(places), rows)

    def fingerprint(self) -> str:
        """See `fingerprint_file`."""
        return fingerprint_file(self.path)

    def check(self, embedder: str, width: int) -> None:
        """Refuses a table that was made by another embedder or has vectors of another width.

        Args:
            embedder: the name of the one in use.
            width: of the vectors that it makes.

        Raises:
            UserError: see above, and for a description beside the table that is none.
        """
        beside = self.path.with_suffix(".json")
        if beside.is_file():
            try:
                made_by = json.loads(beside.read_text())["embedder"]
            except (ValueError, KeyError, TypeError) as error:
                wanted = '{"embedder": "NAME"}'
                raise UserError(f"{beside} describes no vectors", got=repr(error), expected=wanted) from error
            if made_by != embedder:
                raise UserError(
                    f"{self.path} was made by another embedder",
                    got=made_by,
                    expected=embedder,
                    fix=f"embedder={made_by}, or a table made by {embedder}",
                )
        else:
            console.print(f"{self.path} does not say who made it; {beside.name} beside it would", markup=False)
        if self.width != width:
            raise UserError(
                f"{self.path} has vectors of another width",
                got=self.width,
                expected=f"{width}, as embedder={embedder} makes them",
                fix="retrieve.vector= and embedder= as they were when the table was made",
            )


def holds_vectors(path: Path) -> bool:
    """Whether an hdf5 file holds a table of vectors, and so no images."""
    try:
        with h5py.File(path, "r") as file:
            return DATASET in file
    except OSError:
        return False  # whoever reads it says what is wrong
