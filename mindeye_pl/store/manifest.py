"""What an artifact's folder holds against what its manifest says: sizes at every reuse, checksums on demand."""

import hashlib
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindeye_pl.errors import UserError

MANIFEST = "manifest.json"

#: What a manifest cannot be without, and of which kind each is; checksums came later.
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "step": str,
    "label": str,
    "fingerprint": str,
    "determined_by": dict,
    "inputs": dict,
    "seconds": (int, float),
    "files": dict,
}


class UnreadableError(UserError):
    """What lies there is somebody's who lets nobody else read it, which is no damage."""


@dataclass(frozen=True)
class Differences:
    """How a folder differs from its manifest; empty where it is whole.

    Attributes:
        missing: files that are not there.
        changed: files of another size or, where it was asked for, of another checksum, with what was seen.
        extra: files that the manifest does not know.
        by_checksum: whether checksums were compared; False too for a manifest that has none.
    """

    missing: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    by_checksum: bool = False

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.extra)

    def __str__(self) -> str:
        parts = [f"{name} is missing" for name in self.missing]
        parts += [f"{name} {seen}" for name, seen in self.changed.items()]
        parts += [f"{name} is extra" for name in self.extra]
        return ", ".join(parts)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished artifact, every entry of the kind that it should be.

    Raises:
        FileNotFoundError: if the folder itself is not there.
        UserError: if the folder is none, may not be read, or its manifest is not one.
    """
    path = folder / MANIFEST
    try:
        if not folder.is_dir():
            folder.lstat()
            raise UserError(f"{folder} is no folder", expected="an artifact's", fix=f"rm {shlex.quote(str(folder))}")
        manifest = json.loads(path.read_text())
        _check_kinds(manifest)
    except PermissionError as error:
        raise _may_not_read(folder, error) from error
    except (OSError, ValueError, RecursionError) as error:
        folder.lstat()  # it may have been removed meanwhile, which is no damage
        raise UserError(
            f"{path} is unreadable", got=error, expected="the manifest of a finished artifact", fix=remake(folder)
        ) from error
    return manifest


def _check_kinds(manifest: Any) -> None:
    if not isinstance(manifest, dict):
        raise ValueError(f"a {type(manifest).__name__}, not an object")
    for key, kind in _NEEDED.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"`{key}` is {manifest.get(key)!r}")
    names = [*manifest["files"], *_checksums(manifest)]
    if outside := [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise ValueError(f"`files` names {outside[0]}, outside the folder")
    if not all(isinstance(value, str) for value in manifest["inputs"].values()):
        raise ValueError("`inputs` holds more than fingerprints")
    if not all(type(size) is int for size in manifest["files"].values()):
        raise ValueError("`files` holds more than sizes")


def _checksums(manifest: dict[str, Any]) -> dict[str, str]:
    found = manifest.get("sha256", {})
    if not isinstance(found, dict):
        raise ValueError(f"`sha256` is {found!r}")
    return found


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuses a folder that lacks a file or has one of another size: of a copy that was broken off, for instance.

    Reads no file, so that it can be asked at every reuse. Extra files are passed over.

    Raises:
        UserError: naming the first such file, or the first that may not be read.
    """
    for name, size in manifest["files"].items():
        path = folder / name
        try:
            seen = path.stat().st_size
            if not os.access(path, os.R_OK):
                raise PermissionError(f"{path} may not be read")
        except PermissionError as error:
            raise _may_not_read(folder, error) from error
        except OSError as error:
            folder.lstat()
            raise UserError(f"{folder} is not whole", got=f"no file {name}", fix=remake(folder)) from error
        if seen != size:
            raise UserError(
                f"{folder} is not whole",
                got=f"{name} of {seen:,} bytes",
                expected=f"{size:,} bytes",
                fix=remake(folder),
            )


def compare(folder: Path, manifest: dict[str, Any], *, checksums: bool) -> Differences:
    """All differences between a folder and its manifest.

    Args:
        folder: the artifact's.
        manifest: as `read_manifest` gives it.
        checksums: read every file, where the manifest knows checksums; else sizes alone.

    Raises:
        UserError: if a file may not be read.
    """
    there = set(file_names(folder))
    files, digests = manifest["files"], _checksums(manifest)
    changed = {}
    for name in sorted(there & files.keys()):
        path = folder / name
        try:
            seen = path.stat().st_size
            if seen != files[name]:
                changed[name] = f"has {seen:,} of {files[name]:,} bytes"
            elif checksums and name in digests and sha256(path) != digests[name]:
                changed[name] = "has another checksum"
        except PermissionError as error:
            raise _may_not_read(folder, error) from error
    return Differences(
        missing=sorted(files.keys() - there),
        changed=changed,
        extra=sorted(there - files.keys()),
        by_checksum=checksums and digests.keys() >= files.keys(),
    )


def file_names(folder: Path) -> list[str]:
    """Every file below a folder but its manifest, by its path from there."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder; of those that vanish meanwhile, none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_dir() else path.lstat().st_size
        except OSError:
            continue
    return total


def sha256(path: Path) -> str:
    """Sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remake(folder: Path) -> str:
    """The command after which a damaged artifact is made anew."""
    return f"rm -r {shlex.quote(str(folder))}"


def _may_not_read(folder: Path, error: OSError) -> UnreadableError:
    return UnreadableError(
        f"{folder} may not be read",
        got=error.strerror or error,
        fix=f"chmod -R u+rX {shlex.quote(str(folder))} by its owner, or paths.artifacts=FOLDER of your own",
    )
