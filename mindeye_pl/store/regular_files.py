"""Refusal of inputs that are no regular files: reading a named pipe waits, and a device may never end."""

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


def check_regular(path: str | Path) -> Path:
    """Return the path; raise a UserError if there is something else than a regular file or a link to one.

    A path with nothing there is not refused: to open it raises FileNotFoundError.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return path
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no file")
        raise UserError(f"{path} is not a file", got=kind, expected="a regular file")
    return path
