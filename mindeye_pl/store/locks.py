"""Locks of the operating system, which die with their owner, and notes beside them for people.

No decision depends on a note, a time or a process number: those of another machine mean nothing here.
"""

import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from errno import EACCES, EEXIST, ENOLCK, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.json_files import read_json

#: Values of `artifacts.locks`.
REQUIRED, NO_LOCKS = "required", "none"
#: Lock where the file system has locks: for folders that are built atomically, where a lock only saves work.
IF_SUPPORTED = "if supported"

#: Seconds between two attempts, and between two reads of the owner's note: a killed owner is followed by another.
_POLL_S, _READ_NOTE_S = 0.1, 2.0

_REFUSED = (EACCES, EPERM, EROFS)
_NO_FOLDER = (EEXIST, ENOTDIR)
#: Error codes of a file system without locks.
UNSUPPORTED = (ENOSYS, ENOLCK, EOPNOTSUPP)


class NoLocksError(UserError):
    """The file system has no locks."""


@dataclass(frozen=True)
class Maker:
    """Process that builds an artifact, or the last one that tried; its start time is by its machine's clock."""

    step: str
    label: str
    fingerprint: str
    inputs: dict[str, str]
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since_utc: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def write(self, path: Path) -> None:
        """Write the note."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Maker | None":
        """Return the note in a file; None if it is missing or damaged."""
        try:
            found: Any = read_json(path)
            return cls(**found) if isinstance(found.get("inputs"), dict) else None
        except (UserError, OSError, ValueError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since_utc}"


@contextmanager
def held(
    path: Path, what: str, *, note: Path | None = None, locks: str = REQUIRED, option: str = "paths.artifacts"
) -> Iterator[None]:
    """Hold a lock inside the block, after waiting for its owner and printing who that is.

    Args:
        path: lock file. It is never removed: otherwise two processes could lock two files of the same name.
        what: what is built, for messages.
        note: file in which the owner wrote who it is.
        locks: `REQUIRED`, `NO_LOCKS`, or `IF_SUPPORTED`.
        option: configuration key of the folder, for messages.

    Raises:
        UserError: if the file may not be written, or its file system has no locks.
    """
    lock = None
    if locks != NO_LOCKS:
        try:
            with storing(path, option):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = _acquired(path, note, what)
        except NoLocksError:
            if locks == REQUIRED:
                raise
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def held_if_free(path: Path, *, locks: str = REQUIRED) -> Iterator[bool]:
    """Hold a lock inside the block if it is free; yield if it is held, or locks are not used. Raises as `held`."""
    if locks == NO_LOCKS:
        yield True
        return
    lock = FileLock(path)
    with storing(path):
        free = _acquire(lock, path, timeout=0)
    try:
        yield free
    finally:
        lock.release()


def _acquired(path: Path, note: Path | None, what: str) -> FileLock:
    lock, printed, timeout = FileLock(path), None, 0.0
    while not _acquire(lock, path, timeout):
        owner = str((note and Maker.read(note)) or "another process")
        if owner != printed:
            console.print(f"waiting for {owner}, which builds {what}", markup=False)
        printed, timeout = owner, _READ_NOTE_S
    return lock


def _acquire(lock: FileLock, path: Path, timeout: float) -> bool:
    """Try to acquire a lock within `timeout` seconds; return if it is acquired."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock warns of its fallback, which is refused below
            lock.acquire(timeout=timeout, poll_interval=_POLL_S)
    except NotImplementedError as error:
        raise _no_locks(path) from error
    except Timeout:
        pass
    # Where the system call is missing filelock falls back to a file whose existence is the lock. A killed owner leaves
    # it behind, and process numbers of another machine do not tell if it may be removed.
    if isinstance(lock, SoftFileLock):
        lock.release()
        raise _no_locks(path)
    return lock.is_locked


def _no_locks(path: Path) -> NoLocksError:
    expected = "flock, so that no two jobs build the same artifact"
    fix = "paths.artifacts=FOLDER on another; or, for one job at a time, artifacts.locks=none"
    return NoLocksError(f"the file system of {path.parent} has no locks", expected=expected, fix=fix)


def is_held(path: Path) -> bool | None:
    """Return if some process holds a lock now; None if that is unknown. Write nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


@contextmanager
def storing(path: Path, option: str = "paths.artifacts") -> Iterator[None]:
    """Turn into one line that a folder may not be written, a file is in its place, or its file system has no locks."""
    try:
        yield
    except OSError as error:
        where = Path(error.filename2 or error.filename or path)
        if error.errno in UNSUPPORTED:
            raise _no_locks(path) from error
        if error.errno in _NO_FOLDER:
            while not os.path.lexists(where):
                where = where.parent
            fix = f"move it away, or {option}=FOLDER"
            raise UserError(f"{where} is in the way", got="a file", expected="a folder", fix=fix) from error
        if error.errno in _REFUSED:
            shared = ", and paths.shared_artifacts= this one to reuse what is there" if "artifacts" in option else ""
            fix, expected = f"{option}=FOLDER{shared}", "a folder of your own for new files"
            raise UserError(f"{where} may not be written", got=error.strerror, expected=expected, fix=fix) from error
        raise  # a full disk, for instance, has its own message
