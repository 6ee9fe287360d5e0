"""Galleries of images on disk: a folder, tar shards as webdataset writes them, an hdf5 file.

Legend: n places asked for, N places of the gallery, P side of the square images.
"""

import io
import tarfile
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from mindeye_pl.data.image_sources import SUFFIXES, ImageFile, ImageFolder, read_square
from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.source import Portion, keep_finite, read_each
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file


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

    Raises:
        UserError: if the file is missing, damaged or holds no images.
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

    Raises:
        UserError: if there is no shard; when it is first read, if a shard is truncated.
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
            content = file.read(member.size)
        return read_square(io.BytesIO(content), self.image_size, name=f"{shard.name}/{member.name}")

    def fingerprint(self) -> str:
        """Return the fingerprint of the shards' names and their `fingerprint_file`."""
        return fingerprint({shard.name: fingerprint_file(shard) for shard in self.shards})


@lru_cache(maxsize=2)
def _members(shard: Path) -> list[tarfile.TarInfo]:
    """Return the images of a shard, in its order."""
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            images = [one for one in tar if one.isfile() and Path(one.name).suffix.lower() in SUFFIXES]
            file.seek(tar.offset)  # a shard cut between two members lacks nothing but its end mark
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end-of-archive mark")
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{shard} is truncated or not a tar file", got=error, fix=FETCH_AGAIN) from error
    return images
