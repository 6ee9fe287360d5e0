"""Fingerprints of plain data, files and folders."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mindeye_pl.store.atomic import flush as flush
from mindeye_pl.store.atomic import write_text as write_text
from mindeye_pl.store.manifest import MANIFEST as MANIFEST


def fingerprint(content: Any) -> str:
    """Sha256 of the canonical json of plain data, as 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_BLOCKS = 16


_BLOCK_BYTES = 64 * 1024


def fingerprint_file(path: Path) -> str:
    """Sha256 of a file's size and of sixteen blocks of 64 KiB, evenly spaced from its first byte to its last.

    The file's place and times do not enter: a copy has the same fingerprint. A file of up to 1 MiB enters whole.
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
    """Fingerprint of some files by their names below `root` and by what is in them (`fingerprint_file`)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()} {fingerprint_file(path)}\n".encode())
    return digest.hexdigest()
