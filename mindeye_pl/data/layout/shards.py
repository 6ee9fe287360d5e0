"""Tar shards, and their behaviour arrays (MindEye2, spec section 1.2), which are read once and then cached."""

import io
import math
import os
import tarfile
from pathlib import Path
from typing import Self

import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import FETCH_AGAIN
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_array
from mindeye_pl.store.built_once import FolderKind
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.regular_files import check_regular

KIND = FolderKind("behaviour arrays", schema=2, option="paths.cache", cheap=True)
BEHAVIOUR = "behaviour.npy"  # (n, 17) float64


def is_of_macos(name: str) -> bool:
    """Return whether a file holds the metadata that macOS writes beside another file: `._NAME`."""
    return name.rpartition("/")[2].startswith("._")


class TarShard:
    """Tar file, open within a `with` block; headers are read on entering, members on request.

    For error messages, `holds` describes its content, and `fix` is the command that restores it. Raises a UserError on
    entering, if the file is missing, truncated, or not a tar file.
    """

    def __init__(self, path: Path, *, holds: str, fix: str):
        self.path, self._holds, self._fix = path, holds, fix
        self.members: list[tarfile.TarInfo] = []  # its files, in order

    def __enter__(self) -> Self:
        if not check_regular(self.path).is_file():
            raise UserError(f"{self.path} is missing", expected=f"a tar shard of {self._holds}", fix=self._fix)
        self._file = _Bounded(self.path, "rb")
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")
            self.members = [member for member in self._tar if member.isfile() and not is_of_macos(member.name)]
            if sparse := [member.name for member in self.members if member.issparse()]:
                raise tarfile.ReadError(f"{sparse[0]} is sparse")  # its size says nothing of what is stored
            # A shard that is truncated between two members reads without errors; only its end mark is missing.
            self._file.seek(self._tar.offset)
            if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end-of-archive mark")
        except (tarfile.TarError, OSError) as error:
            self._file.close()
            raise self._damaged(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of a member; raises a UserError if it cannot be read."""
        try:
            content = self._tar.extractfile(member)
            assert content is not None, member.name
            return content.read()
        except (tarfile.TarError, OSError) as error:
            raise self._damaged(error) from error

    def read_array(self, member: tarfile.TarInfo, expected: str) -> np.ndarray:
        """Return the numeric array of an `.npy` member; arrays of objects would be pickles and are refused.

        Raises a UserError if the member is not a numeric array, which `expected` describes.
        """
        content = self.read(member)
        try:
            _check_declared(content)
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise self.member_error(member.name, "not a numpy array", got=error, expected=expected) from error
        if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number):
            dtype = getattr(array, "dtype", "no array")
            raise self.member_error(member.name, "unexpected array", got=dtype, expected=expected)
        return array

    def member_error(
        self, name: str, what: str, *, got: object = None, expected: object = None, fix: str | None = None
    ) -> UserError:
        """Return an error about the member or sample of this name."""
        return UserError(f"{self.path}, member {name}: {what}", got=got, expected=expected, fix=fix or self._fix)

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self.path} is truncated or not a tar file", got=error, fix=self._fix)


def _check_declared(content: bytes) -> None:
    """Raise a ValueError for an `.npy` file that declares another array than it holds, before numpy allocates it."""
    header = io.BytesIO(content)
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    if math.prod(shape) * dtype.itemsize != len(content) - header.tell():
        raise ValueError(f"{len(content) - header.tell()} bytes of {shape} {dtype}")


class _Bounded(io.FileIO):
    """File that reads no more than it holds: tarfile allocates what a header declares."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, all that are left by default."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""


def read_behaviour(shard: Path) -> np.ndarray:
    """Return the behaviour of every trial of a shard in order, `(n, 17)` float64, columns as `Behaviour`.

    Raises a UserError if the shard is missing, truncated, not a tar file, or contains other arrays.
    """
    expected = f"(1, {len(Behaviour)}) numbers"
    with TarShard(shard, holds="behaviour arrays", fix=FETCH_AGAIN) as tar:
        rows = []
        for member in (member for member in tar.members if member.name.endswith(".behav.npy")):
            row = tar.read_array(member, expected)
            if row.shape != (1, len(Behaviour)):
                got = f"{row.shape} {row.dtype}"
                raise tar.member_error(member.name, "unexpected array", got=got, expected=expected)
            rows.append(row.astype(np.float64))
        if tar.members and not rows:
            seen = ", ".join(member.name for member in tar.members[:3])
            raise UserError(f"{shard} holds no behaviour arrays", got=seen, expected="NAME.behav.npy", fix=FETCH_AGAIN)
    return np.concatenate(rows) if rows else np.empty((0, len(Behaviour)))


def indexed_behaviour(shard: Path, cache_dir: Path) -> np.ndarray:
    """Return `read_behaviour(shard)`, cached below `cache_dir` by the shard's path, size and modification time."""
    if not shard.is_file():
        return read_behaviour(shard)  # raises the error
    state = shard.stat()
    by = {"shard": str(shard.resolve()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
    folder = cache_dir / "behaviour" / fingerprint(by)[:20]
    KIND.built(folder, by, lambda work: write_array(work / BEHAVIOUR, read_behaviour(shard)))
    return np.load(folder / BEHAVIOUR, allow_pickle=False)
