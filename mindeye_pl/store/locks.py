"""Who makes an artifact: an operating-system lock that dies with its owner, and a note beside it for people.

Nothing is decided by the note, nor by any time or process number: those of another machine mean nothing here.
"""

import fcntl
import json
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
from mindeye_pl.store.atomic import write_text

#: Values of `artifacts.locks`.
REQUIRED, NO_LOCKS = "required", "none"

#: Seconds between two tries, and between two looks at who the owner is: a killed one is succeeded by another.
_POLL_S, _LOOK_AGAIN_S = 0.1, 2.0

_REFUSED = (EACCES, EPERM, EROFS)
_NO_FOLDER = (EEXIST, ENOTDIR)
_UNSUPPORTED = (ENOSYS, ENOLCK, EOPNOTSUPP)


@dataclass(frozen=True)
class Maker:
    """A process that makes an artifact, or the last that tried.

    Attributes:
        step: of the artifact.
        label: of the artifact.
        fingerprint: of the artifact.
        inputs: of the artifact, by name.
        pid: process number on `host`.
        host: name of the machine.
        since_utc: when it began, by that machine's clock.
    """

    step: str
    label: str
    fingerprint: str
    inputs: dict[str, str]
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since_utc: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def write(self, path: Path) -> None:
        """Writes the note."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> "Maker | None":
        """The note in a file; None where there is none that can be read."""
        try:
            found: Any = json.loads(path.read_text())
            return cls(**found) if isinstance(found.get("inputs"), dict) else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since_utc}"


@contextmanager
def held(path: Path, note: Path, what: str, *, locks: str = REQUIRED) -> Iterator[None]:
    """Holds the lock of an artifact, after waiting for whoever holds it, and says who that is.

    Args:
        path: the lock's file; it stays behind, since removing it would let two processes lock two files of one name.
        note: where the owner wrote who it is.
        what: the artifact, for the words that the user reads.
        locks: `required`, or `none` to do without.

    Raises:
        UserError: where the file may not be written, or its file system has no locks.
    """
    if locks == NO_LOCKS:
        yield
        return
    with storing(path):
        lock = _acquired(path, note, what)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held_if_free(path: Path, *, locks: str = REQUIRED) -> Iterator[bool]:
    """Holds a lock if nobody else does; yields whether it may be acted as if it were held.

    Raises:
        UserError: as `held`.
    """
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


def _acquired(path: Path, note: Path, what: str) -> FileLock:
    lock, told, timeout = FileLock(path), None, 0.0
    while not _acquire(lock, path, timeout):
        owner = str(Maker.read(note) or "another process")
        if owner != told:
            console.print(f"waiting for {owner}, which makes {what}", markup=False)
        told, timeout = owner, _LOOK_AGAIN_S
    return lock


def _acquire(lock: FileLock, path: Path, timeout: float) -> bool:
    """Whether the lock could be had within so many seconds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of filelock, that it makes do with less: refused below
            lock.acquire(timeout=timeout, poll_interval=_POLL_S)
    except Timeout:
        free = False
    except NotImplementedError as error:
        raise _no_locks(path) from error
    else:
        free = True
    # Where the system call is missing filelock goes on with a file whose being there is the lock. A killed owner leaves
    # it behind, and whether it may be removed depends on process numbers of another machine.
    if isinstance(lock, SoftFileLock):
        lock.release()
        raise _no_locks(path)
    return free


def _no_locks(path: Path) -> UserError:
    return UserError(
        f"the file system of {path.parent} has no locks",
        expected="one that knows flock, so that no two jobs make the same artifact",
        fix="paths.artifacts=FOLDER on another; or, for one job at a time, artifacts.locks=none",
    )


def is_held(path: Path) -> bool | None:
    """Whether some process holds a lock now; None where that cannot be told. Writes nothing."""
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
def storing(path: Path) -> Iterator[None]:
    """Says in one line why a store cannot be written to.

    Raises:
        UserError: for a folder that may not be written, a file where a folder should be, a file system without locks.
    """
    try:
        yield
    except OSError as error:
        where = Path(error.filename2 or error.filename or path)
        if error.errno in _UNSUPPORTED:
            raise _no_locks(path) from error
        if error.errno in _NO_FOLDER:
            while not os.path.lexists(where):
                where = where.parent
            raise UserError(
                f"{where} is in the way",
                got="a file",
                expected="a folder of artifacts",
                fix="move it away, or paths.artifacts=FOLDER",
            ) from error
        if error.errno in _REFUSED:
            raise UserError(
                f"{where} may not be written",
                got=error.strerror,
                expected="a folder of your own for what is made now",
                fix="paths.artifacts=FOLDER, and paths.shared_artifacts= this one to go on using what lies there",
            ) from error
        raise  # a full disk, for instance, has its own words
