"""Fingerprints of plain data, files and folders."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOCKS, _BLOCK_BYTES = 16, 64 * 1024


def plain(content: Any) -> Any:
    """Return plain data as they are after writing and reading json: keys are strings, tuples are lists."""
    return json.loads(json.dumps(content))


def fingerprint(content: Any) -> str:
    """Return the sha256 of the canonical json of plain data, as 64 hex digits.

    Data have the same fingerprint before they are written to json and after they are read from it.
    """
    # Integer keys become strings first: as strings they have another order.
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fingerprint_file(path: Path) -> str:
    """Return the sha256 of a file's size and of sixteen blocks of 64 KiB, evenly spaced over the file.

    The file's path and times do not enter: a copy has the same fingerprint. A file of up to 1 MiB enters whole.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    last = max(0, size - _BLOCK_BYTES)
    with path.open("rb") as file:
        for start in sorted({last * block // (_BLOCKS - 1) for block in range(_BLOCKS)}):
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def fingerprint_folder(root: Path, files: Iterable[Path]) -> str:
    """Return the fingerprint of some files: their names below `root` and their contents (`fingerprint_file`)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()} {fingerprint_file(path)}\n".encode())
    return digest.hexdigest()
