"""Refusal of inputs that are no regular files or may not be read: a named pipe waits, and a device may never end."""

import os
import shlex
import stat
from pathlib import Path

from mindeye_pl.errors import UserError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(UserError):
    """Permission denied; not counted as corruption."""


def check_regular(path: str | Path) -> Path:
    """Return the path; raise a UserError if there is something else than a regular file or a link to one.

    A file without permission to read is an `UnreadableError`: libraries call it damaged. A path with nothing there is
    not refused: to open it raises FileNotFoundError.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        may_be_read = os.access(path, os.R_OK)
    except PermissionError as error:
        raise _unreadable(path) from error
    except OSError:
        return path
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no file")
        raise UserError(f"{path} is not a file", got=kind, expected="a regular file")
    if not may_be_read:
        raise _unreadable(path)
    return path


def _unreadable(path: Path) -> UnreadableError:
    fix = f"chmod u+r {shlex.quote(str(path))} by its owner, or a copy of your own"
    return UnreadableError(f"{path} may not be read", got="permission denied", fix=fix)
