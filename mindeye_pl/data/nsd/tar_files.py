"""Tar shards that are checked for truncation before reading, and whose arrays cannot be pickles."""

import io
import tarfile
from pathlib import Path
from typing import Self

import numpy as np

from mindeye_pl.errors import UserError


class TarShard:
    """Tar file, open within a `with` block; headers are read on entering, members on request.

    Args:
        path: of the shard.
        holds: description of its content for error messages.
        fix: command that restores the shard.

    Attributes:
        members: its files, in order.

    Raises:
        UserError: on entering, if the file is missing, truncated, or not a tar file.
    """

    def __init__(self, path: Path, *, holds: str, fix: str):
        self.path, self._holds, self._fix = path, holds, fix
        self.members: list[tarfile.TarInfo] = []

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise UserError(f"{self.path} is missing", expected=f"a tar shard of {self._holds}", fix=self._fix)
        self._file = self.path.open("rb")
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")
            self.members = [member for member in self._tar if member.isfile()]
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
        try:
            array = np.load(io.BytesIO(self.read(member)), allow_pickle=False)
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
