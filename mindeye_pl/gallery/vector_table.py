"""Gallery of precomputed vectors: a table in an `.npy` or hdf5 file.

Legend: n requested places, N rows of the table, F width of a vector.
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

#: Dataset of the vectors in an hdf5 file.
DATASET = "vectors"


class VectorTable:
    """Rows of a `.npy` file, read through a memory map, or of the dataset `vectors` of an hdf5 file.

    A file `NAME.json` in the folder of `NAME.npy` names the embedder in its entry `embedder`, which is checked.

    Raises:
        UserError: if the table is missing, damaged, empty or holds something else.
    """

    holds_images = False

    def __init__(self, path: Path):
        self.path = path
        wanted = "a table (N, F) of floating-point numbers"
        try:
            shape, dtype = self._shape_and_type()
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} is damaged, or not a table of vectors", got=error, expected=wanted) from error
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
        """Return names of rows and file."""
        return [f"row {place} of {self.path.name}" for place in places.tolist()]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`; rows with NaN, infinity or only zeros are unreadable."""
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
        """Refuse a table of another embedder than the one of this name, or with vectors of another width.

        Raises:
            UserError: as above, and for a damaged `NAME.json`.
        """
        description = self.path.with_suffix(".json")
        if description.is_file():
            try:
                made_by = json.loads(description.read_text())["embedder"]
            except (ValueError, KeyError, TypeError) as error:
                wanted = '{"embedder": "NAME"}'
                raise UserError(f"{description} does not name an embedder", got=repr(error), expected=wanted) from error
            if made_by != embedder:
                fix = f"embedder={made_by}, or a table made by {embedder}"
                raise UserError(f"{self.path} belongs to another embedder", got=made_by, expected=embedder, fix=fix)
        else:
            console.print(f"{self.path}: the embedder is unknown; {description.name} would name it", markup=False)
        if self.width != width:
            what, fix = f"{self.path} has vectors of another width", "retrieve.vector= and embedder= of the table"
            raise UserError(what, got=self.width, expected=f"{width}, as embedder={embedder} makes them", fix=fix)


def holds_vectors(path: Path) -> bool:
    """Return true if an hdf5 file holds a table of vectors instead of images."""
    try:
        with h5py.File(path, "r") as file:
            return DATASET in file
    except OSError:
        return False  # reading it raises the error
