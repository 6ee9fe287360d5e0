"""Contents of a store: finished artifacts, work in progress, and leftovers of killed processes."""

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import SCHEMA_VERSION, ArtifactSpec
from mindeye_pl.store.locks import Maker, held_if_free, is_held, storing
from mindeye_pl.store.manifest import Differences, compare, folder_bytes, read_manifest, rebuild
from mindeye_pl.store.regular_files import UnreadableError

#: The states of an entry.
WHOLE, DAMAGED, OTHER_SCHEMA, UNREADABLE = "whole", "damaged", "other schema", "unreadable"
MAKING, UNFINISHED, REMOVED = "being made", "unfinished", "half removed"

_FINISHED = re.compile(r"(?P<label>.+)-(?P<digits>[0-9a-f]{12})")
_WORK = re.compile(r"\.(?P<digits>[0-9a-f]{12})\.work")
_REMOVED = re.compile(r"\.(?:.+-)?(?P<digits>[0-9a-f]{12})(?:\.work)?\.removed")


@dataclass(frozen=True)
class Entry:
    """A folder of the store.

    Attributes:
        label: readable name; empty for work whose process left no note.
        digits: first twelve digits of the fingerprint.
        state: one of the seven above.
        size: of its files, in bytes.
        why: reason of the state, or the process that works on it.
        fingerprint: all digits; empty if unknown.
        inputs: fingerprints of its inputs, by name; empty if unknown.
        manifest: of a finished artifact with a readable one.
        differences: between its files and its manifest.
        identity: differs for a later folder of the same name, and for the same folder after a change.
    """

    folder: Path
    step: str
    label: str
    digits: str
    state: str
    size: int
    why: str = ""
    fingerprint: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    differences: Differences = field(default_factory=Differences)
    identity: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name for people: step and folder."""
        return f"{self.step}/{self.folder.name}"

    @property
    def fix(self) -> str:
        """The command that fixes a damaged artifact: remove extra files only, or else the artifact, to rebuild it."""
        if (found := self.differences) and not found.missing and not found.changed:
            return " ".join(["rm", *(shlex.quote(str(self.folder / name)) for name in found.extra)])
        return rebuild(self.folder)


def read_store(root: Path, step: str | None = None, *, checksums: bool = False) -> Iterator[Entry]:
    """Yield every artifact below a folder, step by step; skip folders that no step built.

    Args:
        root: the store's folder.
        step: only this step's artifacts.
        checksums: read every file; else compare sizes only.

    Raises:
        UserError: if the store may not be read, or has nothing of the requested step.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is in the way", got="a file", expected="a folder", fix="move it away")
    try:
        steps = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        if step is not None and step not in (names := [path.name for path in steps]):
            raise UserError("artifacts.step", got=step, expected=f"one of {names}")
        for folder in steps if step is None else [root / step]:
            for path in sorted(folder.iterdir(), key=lambda path: (path.name.startswith("."), path.name)):
                try:
                    identity = _identity(path)
                    entry = _read(path, checksums=checksums)
                except FileNotFoundError:
                    continue  # removed or finished meanwhile
                if entry is not None:
                    yield replace(entry, identity=identity)
    except PermissionError as error:
        raise UserError(f"{error.filename} may not be read", got=error.strerror, expected="a store to read") from error


def _read(path: Path, *, checksums: bool) -> Entry | None:
    step = path.parent.name
    if not path.is_dir():
        return None
    if match := _WORK.fullmatch(path.name):
        return _work(Entry(path, step, "", match["digits"], MAKING, folder_bytes(path)))
    if match := _REMOVED.fullmatch(path.name):
        return Entry(path, step, "", match["digits"], REMOVED, folder_bytes(path), "its removal was interrupted")
    if match := _FINISHED.fullmatch(path.name):
        entry = Entry(path, step, match["label"], match["digits"], WHOLE, folder_bytes(path))
        return _finished(entry, checksums=checksums)
    return None


def _work(entry: Entry) -> Entry:
    held = is_held(entry.folder.with_suffix(".lock"))
    if held is False:
        entry = replace(entry, state=UNFINISHED)
    maker = Maker.read(entry.folder.with_suffix(".maker.json"))
    if maker is not None and maker.fingerprint[:12] == entry.digits:
        known: dict[str, Any] = {"label": maker.label, "fingerprint": maker.fingerprint, "inputs": maker.inputs}
        entry = replace(entry, why=f"by {maker}", **known)
    return replace(entry, why="or not: its lock cannot be read") if held is None else entry


def _finished(entry: Entry, *, checksums: bool) -> Entry:
    try:
        manifest = read_manifest(entry.folder)
        differences = compare(entry.folder, manifest, checksums=checksums)
    except UnreadableError as error:
        return replace(entry, state=UNREADABLE, why=str(error.got))
    except UserError as error:
        return replace(entry, state=DAMAGED, why=f"{error.what}: {error.got}")
    spec = ArtifactSpec(**{one.name: manifest[one.name] for one in fields(ArtifactSpec)})
    state, why = WHOLE, str(differences)
    if manifest["schema"] != SCHEMA_VERSION:
        state, why = OTHER_SCHEMA, f"schema {manifest['schema']}, not {SCHEMA_VERSION}"
    elif manifest["fingerprint"][:12] != entry.digits:
        state, why = DAMAGED, f"holds another artifact, {manifest['fingerprint'][:12]}"
    elif manifest["fingerprint"] != spec.fingerprint:
        state, why = DAMAGED, "its manifest was changed: its content has another fingerprint"
    elif differences.missing or differences.changed or (checksums and differences.extra):
        state = DAMAGED
    found: dict[str, Any] = {"fingerprint": manifest["fingerprint"], "inputs": spec.inputs, "manifest": manifest}
    return replace(entry, state=state, why=why, differences=differences, **found)


def users(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the artifacts that are built from each artifact or data, by its fingerprint; including unfinished ones."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        for fingerprint in entry.inputs.values():
            found.setdefault(fingerprint, []).append(entry)
    return found


def with_inputs(fingerprints: set[str], entries: Sequence[Entry]) -> set[str]:
    """Return the fingerprints and those of all inputs of these artifacts, direct and indirect."""
    inputs = {entry.fingerprint: set(entry.inputs.values()) for entry in entries if entry.fingerprint}
    found, new = set(fingerprints), set(fingerprints)
    while new:
        new = set().union(*(inputs.get(one, set()) for one in new)) - found
        found |= new
    return found


def remove(entry: Entry, *, locks: str) -> bool:
    """Remove an artifact, unless a process is building it now or has changed it since it was listed.

    It is renamed before it is deleted, so that a kill leaves nothing incomplete under a final name. Return true if it
    was removed.

    Raises:
        UserError: if it may not be removed.
    """
    with held_if_free(entry.folder.parent / f".{entry.digits}.lock", locks=locks) as free:
        if not free:
            return False
        try:
            if _identity(entry.folder) != entry.identity:
                return False
        except FileNotFoundError:
            return False
        with storing(entry.folder):
            _rename_and_delete(entry.folder)
            if entry.state == UNFINISHED:
                entry.folder.with_suffix(".maker.json").unlink(missing_ok=True)
    return True


def _identity(folder: Path) -> tuple[int, ...]:
    state = folder.lstat()
    return state.st_dev, state.st_ino, state.st_ctime_ns


def _rename_and_delete(folder: Path) -> None:
    if folder.is_symlink():  # only the link belongs to the store
        folder.unlink()
        return
    removed = folder
    if not _REMOVED.fullmatch(folder.name):
        removed = folder.with_name(f".{folder.name.removeprefix('.')}.removed")
        if removed.exists():
            shutil.rmtree(removed)
        folder.rename(removed)
    shutil.rmtree(removed)
