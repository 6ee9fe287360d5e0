"""Tar shards that are known to be whole before a member is read, and whose arrays cannot be pickles."""

import io
import tarfile
from pathlib import Path
from typing import Self

import numpy as np

from mindeye_pl.errors import UserError


class TarShard:
    """A tar file, open within a `with` block; its headers are read then, its members one at a time when asked for.

    Args:
        path: of the shard.
        holds: what it should hold, in a few words.
        mend: what brings it again.

    Attributes:
        members: its files, in order.

    Raises:
        UserError: on entering, if it is missing, cut off anywhere, or no tar.
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
            # A shard that was cut between two members reads without a complaint; only its end mark is missing.
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
        """What a member holds.

        Raises:
            UserError: if the disk does not give it.
        """
        try:
            content = self._tar.extractfile(member)
            assert content is not None, member.name
            return content.read()
        except (tarfile.TarError, OSError) as error:
            raise self._damaged(error) from error

    def read_array(self, member: tarfile.TarInfo, wanted: str) -> np.ndarray:
        """The array in an `.npy` member; one of objects would be a pickle and is refused.

        Args:
            member: of this shard.
            wanted: which array should be there, in a few words.

        Raises:
            UserError: if it is none, or no array of numbers.
        """
        try:
            array = np.load(io.BytesIO(self.read(member)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise self.refusal(member.name, "no numpy array", seen=error, wanted=wanted) from error
        if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.number):
            raise self.refusal(member.name, "another array", seen=getattr(array, "dtype", "no array"), wanted=wanted)
        return array

    def refusal(
        self, name: str, what: str, *, seen: object = None, wanted: object = None, fix: str | None = None
    ) -> UserError:
        """The error that says what is wrong with a member, or a sample, of this name."""
        return UserError(f"{self.path}, member {name}: {what}", got=seen, expected=wanted, fix=fix or self._fix)

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self.path} is truncated or no tar file", got=error, fix=self._fix)
