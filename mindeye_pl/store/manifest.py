"""Manifests, written last: the files of a finished folder, and the plain data that determine them."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.json_files import read_json
from mindeye_pl.store.regular_files import UnreadableError

MANIFEST = "manifest.json"

Kinds = Mapping[str, type | tuple[type, ...]]

#: Entries of the manifest of a folder, and their types.
FOLDER_ENTRIES: Kinds = {"schema": int, "determined_by": dict, "files": dict, "sha256": dict}
_TEXTS = dict.fromkeys(("step", "label", "fingerprint"), str)
#: Entries of the manifest of an artifact.
ARTIFACT_ENTRIES: Kinds = {**FOLDER_ENTRIES, **_TEXTS, "version": int, "inputs": dict, "seconds": (int, float)}


@dataclass(frozen=True)
class Differences:
    """Missing files, changed files with a description, and extra files of a folder; false if there are none."""

    missing: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.extra)

    def __str__(self) -> str:
        parts = [f"{name} is missing" for name in self.missing]
        parts += [f"{name} {difference}" for name, difference in self.changed.items()]
        parts += [f"{name} is extra" for name in self.extra]
        return ", ".join(parts)


def write_manifest(folder: Path, *, checksums: bool = True, **entries: Any) -> None:
    """Write the manifest of a folder whose files are finished: their sizes, checksums, and plain data.

    `checksums` is False for files that change later; `schema` and `determined_by` must be among the entries.
    """
    names = file_names(folder)
    sizes = {name: (folder / name).stat().st_size for name in names}
    digests = {name: sha256(folder / name) for name in names if checksums}
    write_json(folder / MANIFEST, {**entries, "files": sizes, "sha256": digests})


def read_manifest(folder: Path, entries: Kinds = ARTIFACT_ENTRIES) -> dict[str, Any]:
    """Return the manifest of a finished folder, with the entries that it needs, each of the right type.

    Raises:
        FileNotFoundError: if the folder itself is missing.
        UserError: if the path is not a folder, or its manifest is missing, damaged or not readable.
    """
    path = folder / MANIFEST
    try:
        if not folder.is_dir():
            folder.lstat()
            raise UserError(f"{folder} is not a folder", fix=f"rm {shlex.quote(str(folder))}")
        manifest = read_json(path)
        _check_kinds(manifest, entries)
    except (PermissionError, UnreadableError) as error:
        raise _unreadable(folder, error) from error
    except (OSError, ValueError) as error:
        folder.lstat()  # removed meanwhile: not damaged
        expected = "the manifest of a finished folder"
        raise UserError(f"{path} is unreadable", got=error, expected=expected, fix=rebuild(folder)) from error
    return manifest


def _check_kinds(manifest: Any, entries: Kinds) -> None:
    if not isinstance(manifest, dict):
        raise ValueError(f"a {type(manifest).__name__}, not an object")
    for key, kind in entries.items():
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"`{key}` is {manifest.get(key)!r}")
    names = [*manifest["files"], *manifest["sha256"]]
    if outside := [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise ValueError(f"`files` names {outside[0]}, outside the folder")
    if not all(type(size) is int for size in manifest["files"].values()):
        raise ValueError("`files` holds more than sizes")
    if not all(isinstance(value, str) for value in manifest.get("inputs", {}).values()):
        raise ValueError("`inputs` holds more than fingerprints")


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder with a missing file or one of another size, for instance an interrupted copy.

    Reads no file, and ignores extra files.

    Raises:
        UserError: naming the first such file, or the first that is not readable.
    """
    for name, size in manifest["files"].items():
        path = folder / name
        try:
            found = path.stat().st_size
            if not os.access(path, os.R_OK):
                raise PermissionError(f"{path} may not be read")
        except PermissionError as error:
            raise _unreadable(folder, error) from error
        except OSError as error:
            folder.lstat()
            raise UserError(f"{folder} is incomplete", got=f"no file {name}", fix=rebuild(folder)) from error
        if found != size:
            got, expected = f"{name} of {found:,} bytes", f"{size:,} bytes"
            raise UserError(f"{folder} is incomplete", got=got, expected=expected, fix=rebuild(folder))


def compare(folder: Path, manifest: dict[str, Any], *, checksums: bool) -> Differences:
    """Return all differences between a folder and its manifest, by sizes and, on demand, by checksums.

    Raises:
        UserError: if a file is not readable.
    """
    found = set(file_names(folder))
    files, digests = manifest["files"], manifest["sha256"]
    changed = {}
    for name in sorted(found & files.keys()):
        path = folder / name
        try:
            size = path.stat().st_size
            if size != files[name]:
                changed[name] = f"has {size:,} of {files[name]:,} bytes"
            elif checksums and sha256(path) != digests.get(name):
                changed[name] = "has another checksum"
        except PermissionError as error:
            raise _unreadable(folder, error) from error
    return Differences(missing=sorted(files.keys() - found), changed=changed, extra=sorted(found - files.keys()))


def file_names(folder: Path) -> list[str]:
    """Return the relative path of every file below a folder except its manifest."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def folder_bytes(folder: Path) -> int:
    """Return the total size of the files below a folder; files that are removed meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += 0 if path.is_dir() else path.lstat().st_size
    return total


def sha256(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rebuild(folder: Path) -> str:
    """Return the command after which a damaged folder is rebuilt."""
    return f"rm -r {shlex.quote(str(folder))}"


def _unreadable(folder: Path, error: PermissionError | UnreadableError) -> UnreadableError:
    fix = f"chmod -R u+rX {shlex.quote(str(folder))} by its owner, or paths.artifacts=FOLDER of your own"
    got = error.got if isinstance(error, UnreadableError) else error.strerror or error
    return UnreadableError(f"{folder} may not be read", got=got, fix=fix)
