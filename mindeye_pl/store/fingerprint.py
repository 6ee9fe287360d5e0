"""Fingerprints of plain data, files and folders."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.regular_files import check_regular

#: Environment variable of the folder of remembered digests, in place of the user's cache folder.
CACHE = "MINDEYE_CACHE"

#: Smaller files are read as quickly as what is remembered of them.
_REMEMBERED_FROM_BYTES = 1024 * 1024
_SETTLED_AFTER_NS = 3_000_000_000


#: Longest name of a folder that is made of text of the user's, in bytes; file systems allow 255 for all of it.
_LONGEST_NAME = 80


def plain(content: Any) -> Any:
    """Return plain data as they are after writing and reading json: keys are strings, tuples are lists."""
    return json.loads(json.dumps(content))


def fingerprint(content: Any) -> str:
    """Return the sha256 of the canonical json of plain data, as 64 hex digits.

    Data have the same fingerprint before they are written to json and after they are read from it.
    """
    # Integer keys become strings first: as strings they have another order.
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_name(text: str) -> str:
    """Return text as part of a folder's name: no separators, blanks or leading dots; a long one ends in its digest."""
    name = re.sub(r"[^\w.+=-]+", "-", text).lstrip(".") or "unnamed"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = fingerprint(text)[:8]
    return f"{name.encode()[: _LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}-{digest}"


def folders_of(name: str) -> Path:
    """Return the folders of a name in parts, such as `sweeps/seeds`: each a `folder_name`, none leads upwards."""
    return Path(*map(folder_name, name.split("/")))


def fingerprint_file(path: Path) -> str:
    """Return the sha256 of a whole file's content; the path and times do not enter, so that a copy has the same.

    The digest of a large file is remembered between processes, for as long as its size, time of change and inode stay.
    Raises a UserError for what is not a regular file.
    """
    status = check_regular(path).stat()
    if status.st_size < _REMEMBERED_FROM_BYTES:
        return _digest(path)
    identity = [
        str(path.resolve()),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ]
    place = _remembered_in(identity)
    with suppress(OSError):
        if re.fullmatch("[0-9a-f]{64}", found := place.read_text(errors="replace")):
            return found
    digest, now = _digest(path), time.time_ns()
    # A change within the resolution of the file system's clock would not be noticed later.
    if now - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_AFTER_NS:
        with suppress(OSError):  # a folder that may not be written: the file is read again next time
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, digest)
    return digest


def _remembered_in(identity: list[Any]) -> Path:
    cache = Path(os.environ.get(CACHE) or user_cache_path("mindeye_pl"))
    return cache / "fingerprints" / fingerprint(identity)[:32]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_folder(root: Path, files: Iterable[Path]) -> str:
    """Return the fingerprint of some files: their names below `root` and their contents (`fingerprint_file`)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()} {fingerprint_file(path)}\n".encode())
    return digest.hexdigest()
