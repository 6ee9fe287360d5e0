"""Galleries on disk: a folder of images, tar shards as webdataset writes them, an hdf5 file, a table of vectors.

Legend: n requested places, N places of the gallery, P side of the square images, F width of a vector.
"""

import io
import tarfile
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from mindeye_pl.data.image_sources import SUFFIXES, ImageFile, ImageFolder, read_square
from mindeye_pl.data.layout.hdf5 import open_dataset, open_hdf5, read_rows
from mindeye_pl.data.layout.paths import FETCH_AGAIN
from mindeye_pl.data.layout.shards import TarShard
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.source import Gallery, Portion, keep_finite, read_each
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.store.json_files import read_json
from mindeye_pl.store.regular_files import check_regular

#: Dataset of the vectors in an hdf5 file.
DATASET = "vectors"
#: Kind of the galleries that hold vectors in place of images.
VECTORS = "vectors"


class FolderGallery:
    """Images below a folder in the order of their names, as squares of side P; see `ImageFolder`."""

    holds_images = True

    def __init__(self, root: Path, image_size: int):
        self._folder = ImageFolder(root, image_size)

    def __len__(self) -> int:
        return len(self._folder)

    def names(self, places: np.ndarray) -> list[str]:
        """Return paths below the folder."""
        return [self._folder.paths[place].relative_to(self._folder.root).as_posix() for place in places.tolist()]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`."""
        side = self._folder.image_size
        return read_each(places, self.names(places), lambda place: read_square(self._folder.paths[place], side), side)

    def fingerprint(self) -> str:
        """See `ImageFolder.fingerprint`."""
        return self._folder.fingerprint()


class FileGallery:
    """Images of an hdf5 file as `Stimuli` reads it, by row, cropped to the central square; none is resized.

    Raises a UserError if the file is missing, damaged or holds no images.
    """

    holds_images = True

    def __init__(self, path: Path):
        if not len(stimuli := Stimuli(path)):
            raise UserError("the gallery is empty", got=f"no image in {path}", expected="one or more")
        self._file = ImageFile(path, min(stimuli.shape[-2:]))

    def __len__(self) -> int:
        return len(self._file)

    def names(self, places: np.ndarray) -> list[str]:
        """Return names like `stimulus 17`, by row."""
        return [f"stimulus {place}" for place in places.tolist()]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`."""
        return keep_finite(places, self.names(places), self._file.read(places))

    def fingerprint(self) -> str:
        """See `fingerprint_file`."""
        return self._file.fingerprint()


class TarGallery:
    """Images of uncompressed tar shards in the order of their names, cropped to the central square of side P.

    Only headers are read to find them; those of two shards are kept. Other members (captions, json) are ignored.
    Raises a UserError if there is no shard; when it is first read, if a shard is truncated.
    """

    holds_images = True

    def __init__(self, shards: Sequence[Path], image_size: int):
        self.shards, self.image_size = sorted(shards), image_size
        if not self.shards:
            raise UserError("the gallery is empty", got="no tar shard", expected="files of .tar")

    @cached_property
    def _starts(self) -> np.ndarray:
        """Place of each shard's first image, followed by N, `(shards + 1,)`."""
        starts = np.cumsum([0, *(len(_members(shard)) for shard in self.shards)])
        if starts[-1] == 0:
            seen = f"no image in {len(self.shards)} tar shards, {self.shards[0].name} first"
            raise UserError("the gallery is empty", got=seen, expected=f"members of {sorted(SUFFIXES)}")
        return starts

    def __len__(self) -> int:
        return int(self._starts[-1])

    def names(self, places: np.ndarray) -> list[str]:
        """Return names of shard and member: `00012.tar/000120034.jpg`."""
        found = [self._find(place) for place in places.tolist()]
        return [f"{shard.name}/{member.name}" for shard, member in found]

    def read(self, places: np.ndarray) -> Portion:
        """See `Gallery.read`."""
        return read_each(places, self.names(places), self._read_one, self.image_size)

    def _find(self, place: int) -> tuple[Path, tarfile.TarInfo]:
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.shards[number], _members(self.shards[number])[place - self._starts[number]]

    def _read_one(self, place: int) -> np.ndarray:
        shard, member = self._find(place)
        with shard.open("rb") as file:
            file.seek(member.offset_data)
            content = io.BytesIO(file.read(member.size))
        return read_square(content, self.image_size, name=f"{shard.name}/{member.name}")

    def fingerprint(self) -> str:
        """Return the fingerprint of the shards' names and their `fingerprint_file`."""
        return fingerprint({shard.name: fingerprint_file(shard) for shard in self.shards})


@lru_cache(maxsize=2)
def _members(shard: Path) -> list[tarfile.TarInfo]:
    """Return the images of a shard, in its order."""
    with TarShard(shard, holds="images", fix=FETCH_AGAIN) as tar:
        return [member for member in tar.members if Path(member.name).suffix.lower() in SUFFIXES]


class VectorTable:
    """Rows of a `.npy` file, read through a memory map, or of the dataset `vectors` of an hdf5 file.

    A file `NAME.json` in the folder of `NAME.npy` names the embedder in its entry `embedder`, which is checked.
    Raises a UserError if the table is missing, damaged, empty or holds something else.
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
            mapped = open_memmap(check_regular(self.path), mode="r")  # `np.load` would open archives too
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
            rows = open_memmap(self.path, mode="r")[places]
            rows = rows.astype(rows.dtype.newbyteorder("="), copy=False)
        else:
            with open_dataset(self.path, DATASET) as vectors:
                rows = read_rows(vectors, places)
        return keep_finite(places, self.names(places), rows)

    def fingerprint(self) -> str:
        """See `fingerprint_file`."""
        return fingerprint_file(self.path)

    @property
    def description(self) -> Path:
        """Path of the file that names the embedder."""
        return self.path.with_suffix(".json")

    def check(self, embedder: str, width: int) -> None:
        """Refuse a table of another embedder than the one of this name, with vectors of another width, or damaged."""
        if (description := self.description).is_file():
            try:
                made_by = read_json(description)["embedder"]
            except (ValueError, KeyError, TypeError) as error:
                wanted = '{"embedder": "NAME"}'
                raise UserError(f"{description} does not name an embedder", got=repr(error), expected=wanted) from error
            if made_by != embedder:
                fix = f"embedder={made_by}, or a table made by {embedder}"
                raise UserError(f"{self.path} belongs to another embedder", got=made_by, expected=embedder, fix=fix)
        if self.width != width:
            what, fix = f"{self.path} has vectors of another width", "retrieve.vector= and embedder= of the table"
            raise UserError(what, got=self.width, expected=f"{width}, as embedder={embedder} makes them", fix=fix)


def _holds_vectors(path: Path) -> bool:
    """Return true if an hdf5 file holds a table of vectors instead of images."""
    try:
        with open_hdf5(check_regular(path)) as file:
            return DATASET in file
    except OSError:
        return False  # reading it raises the error


#: Kinds of galleries by name: from a path and the side of the images to the gallery.
KINDS: dict[str, Callable[[Path, int], Gallery]] = {
    "folder": FolderGallery,
    "tar": lambda path, side: TarGallery(_shards(path), side),
    "hdf5": lambda path, side: FileGallery(path),
    VECTORS: lambda path, side: VectorTable(path),
}
#: Infer the kind from the path.
AUTO = "auto"

_KIND_OF_SUFFIX = {".tar": "tar", ".hdf5": "hdf5", ".h5": "hdf5", ".npy": VECTORS}


def open_gallery(path: Path, image_size: int, kind: str = AUTO) -> Gallery:
    """Return the gallery at a path: a folder of images or of tar shards, a tar shard, an hdf5 file or a `.npy` file.

    Images of folders and shards are resized to squares of side `image_size`; `kind` is one of `KINDS`, or "auto".
    Raises a UserError for an unknown kind, if there is nothing at the path, if it is empty or damaged.
    """
    return KINDS[kind_of(path, kind)](path, image_size)


def kind_of(path: Path, kind: str = AUTO) -> str:
    """Return the kind of the gallery at a path, that given or inferred; raises a UserError as `open_gallery`."""
    if not path.exists():
        raise UserError("the gallery does not exist", got=path, fix="retrieve.gallery=PATH, or null for the data's own")
    if kind != AUTO:
        return kind
    if path.is_dir():
        return "tar" if _shards(path) else "folder"
    if (found := _KIND_OF_SUFFIX.get(path.suffix.lower())) is None:
        expected, fix = f"a folder, or a file of {list(_KIND_OF_SUFFIX)}", f"retrieve.source= one of {list(KINDS)}"
        raise UserError("the gallery is of no known kind", got=path, expected=expected, fix=fix)
    return VECTORS if found == "hdf5" and _holds_vectors(path) else found


def _shards(path: Path) -> list[Path]:
    return sorted(path.glob("*.tar")) if path.is_dir() else [path]
