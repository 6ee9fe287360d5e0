"""Finished work on disk, named by the fingerprint of what determines it, so that nothing is computed twice.

A step writes into a hidden work folder, which survives a kill and is taken up again. When the step is done the manifest
is written, everything is flushed, and one rename gives the folder its final name: a folder with that name is whole.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mindeye_pl.console import console
from mindeye_pl.errors import UserError

#: Raised when the meaning of an artifact's files changes; it is part of every fingerprint.
SCHEMA_VERSION = 1

MANIFEST = "manifest.json"
#: What a step wants to have said in its manifest beside what determines it, a json object.
FACTS = "facts.json"


def fingerprint(content: Any) -> str:
    """Sha256 of the canonical json of plain data, as 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class ArtifactSpec:
    """What an artifact is made of.

    Attributes:
        step: the step that makes it, a folder of the store.
        label: a few words for people, part of the folder's name but not of the fingerprint.
        determined_by: plain data, everything that the content depends on.
        inputs: fingerprints of the artifacts and data that it is made from, by name.
    """

    step: str
    label: str
    determined_by: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all that determines the content."""
        return fingerprint(
            {"schema": SCHEMA_VERSION, "step": self.step, "by": self.determined_by, "inputs": self.inputs}
        )

    @property
    def name(self) -> str:
        """Folder name below the step's folder."""
        return f"{self.label}-{self.fingerprint[:12]}"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """As in the spec that made it."""
        return self.manifest["fingerprint"]


class ArtifactStore:
    """The folder below which all artifacts lie."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, spec: ArtifactSpec) -> Path:
        """Where the finished artifact lies, or would lie."""
        return self.root / spec.step / spec.name

    def work_folder(self, spec: ArtifactSpec) -> Path:
        """Where it is made; left in place when the maker is killed."""
        return self.root / spec.step / f".{spec.fingerprint[:12]}.work"

    def find(self, spec: ArtifactSpec) -> Artifact | None:
        """The finished artifact, if there is one.

        Raises:
            UserError: when the folder is there but its manifest is unreadable or speaks of something else.
        """
        folder = self.folder(spec)
        if not folder.is_dir():
            return None
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            found = manifest["fingerprint"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder / MANIFEST} is unreadable",
                seen=error,
                wanted="the manifest of a finished artifact",
                mend=f"rm -r {folder}",
            ) from error
        if found != spec.fingerprint:
            raise UserError(
                f"{folder} holds another artifact",
                seen=found[:12],
                wanted=spec.fingerprint[:12],
                mend=f"rm -r {folder}",
            )
        return Artifact(folder, manifest)

    @contextmanager
    def making(self, spec: ArtifactSpec) -> Iterator[Path | None]:
        """Holds the artifact's lock; yields the work folder, or None when somebody else made it.

        The folder gets its final name when the block ends without an exception; otherwise it stays and the next
        maker goes on in it. The lock is the operating system's, so it dies with its owner.
        """
        work = self.work_folder(spec)
        work.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.print(f"waiting for another process that makes {spec.step} {spec.label}")
            lock.acquire()
        try:
            if self.find(spec):
                yield None
                return
            work.mkdir(exist_ok=True)
            started = time.time()
            yield work
            self._finish(spec, work, seconds=time.time() - started)
        finally:
            lock.release()

    def _finish(self, spec: ArtifactSpec, work: Path, seconds: float) -> None:
        facts = json.loads((work / FACTS).read_text()) if (work / FACTS).exists() else {}
        (work / FACTS).unlink(missing_ok=True)
        files = sorted(path for path in work.rglob("*") if path.is_file() and path.name != MANIFEST)
        manifest = {
            "schema": SCHEMA_VERSION,
            "step": spec.step,
            "label": spec.label,
            "fingerprint": spec.fingerprint,
            "determined_by": spec.determined_by,
            "inputs": spec.inputs,
            "seconds": round(seconds, 2),  # of the last process that worked on it
            "finished_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "facts": facts,
            "files": {str(path.relative_to(work)): path.stat().st_size for path in files},
        }
        for path in files:
            _flush(path)
        write_text(work / MANIFEST, json.dumps(manifest, indent=1))
        os.replace(work, self.folder(spec))
        _flush(self.folder(spec).parent)

    def discard_work(self, spec: ArtifactSpec) -> None:
        """Forgets what a killed maker left."""
        shutil.rmtree(self.work_folder(spec), ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes beside, flushes, renames: the file is the old one or the new one, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
