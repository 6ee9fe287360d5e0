"""Finished work on disk, named by the fingerprint of what determines it, so that nothing is computed twice.

A step writes into a hidden work folder, which survives a kill and is taken up again. When the step is done the manifest
is written, everything is flushed, and one rename gives the folder its final name: a folder with that name is whole.
People copy folders, though, and disks fail: sizes are compared at every reuse, checksums by `pipeline=artifacts`.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import Any

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import flush as flush
from mindeye_pl.store.atomic import write_text as write_text
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.locks import REQUIRED, Maker, held, storing
from mindeye_pl.store.manifest import MANIFEST as MANIFEST
from mindeye_pl.store.manifest import check_sizes, file_names, read_manifest, remake, sha256

#: Raised when the meaning of every artifact's files changes; it is part of every fingerprint.
SCHEMA_VERSION = 1

#: What a step wants to have said in its manifest beside what determines it, a json object.
FACTS = "facts.json"

#: What `write_text` leaves of a file when it is killed.
_LEFT_BESIDE = re.compile(r"\.(?P<name>.+)\.\d+")


def spec_fingerprint(
    schema: int, step: str, determined_by: Mapping[str, Any], inputs: Mapping[str, str], version: int
) -> str:
    """The fingerprint of an artifact. Version 1 goes unsaid: artifacts of before there were versions have it."""
    later = {"version": version} if version > 1 else {}
    return fingerprint({"schema": schema, "step": step, "by": determined_by, "inputs": inputs, **later})


@dataclass(frozen=True)
class ArtifactSpec:
    """What an artifact is made of.

    Attributes:
        step: the step that makes it, a folder of the store.
        label: a few words for people, part of the folder's name but not of the fingerprint.
        determined_by: plain data, everything that the content depends on.
        inputs: fingerprints of the artifacts and data that it is made from, by name.
        version: of what the step means by its settings; `Run.spec` sets it from `Step.version`.
    """

    step: str
    label: str
    determined_by: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all that determines the content."""
        return spec_fingerprint(SCHEMA_VERSION, self.step, self.determined_by, self.inputs, self.version)

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
    """The folder below which all artifacts lie.

    Args:
        root: that folder; artifacts are made here.
        shared: another store, of a laboratory for instance, that is looked into where `root` lacks an artifact. Nothing
            is written there.
        locks: `required`, or `none` for a file system that has no locks and one job at a time.
        made_with: versions and machine, written into manifests for people and part of no fingerprint.
    """

    def __init__(
        self,
        root: Path,
        shared: Path | None = None,
        *,
        locks: str = REQUIRED,
        made_with: Callable[[], Mapping[str, str]] = dict,
    ):
        self.root, self.locks = root, locks
        self._made_with = made_with
        self._passed_over: set[Path] = set()
        if shared is not None and not shared.is_dir():
            raise UserError("paths.shared_artifacts is no folder", got=shared, fix="paths.shared_artifacts=null")
        self.shared = shared if shared is not None and shared.resolve() != root.resolve() else None

    def folder(self, spec: ArtifactSpec) -> Path:
        """Where the finished artifact lies, or would lie when it is made here."""
        return self.root / spec.step / spec.name

    def work_folder(self, spec: ArtifactSpec) -> Path:
        """Where it is made; left in place when the maker is killed."""
        return self.root / spec.step / f".{spec.fingerprint[:12]}.work"

    def find(self, spec: ArtifactSpec) -> Artifact | None:
        """The finished artifact, if there is one: here, else in the shared store.

        Its files are there and have their sizes; `pipeline=artifacts artifacts.action=verify` reads them.

        Raises:
            UserError: when the folder is there but is not whole, may not be read, or holds something else. In the
                shared store such a folder is passed over with a line, since only its owner can mend it.
        """
        if os.path.lexists(folder := self.folder(spec)):
            try:
                return Artifact(folder, read_whole(folder, spec))
            except FileNotFoundError:  # removed since
                return None
        if self.shared is not None and os.path.lexists(folder := self.shared / spec.step / spec.name):
            try:
                return Artifact(folder, read_whole(folder, spec))
            except FileNotFoundError:
                return None
            except UserError as error:
                if folder not in self._passed_over:
                    console.print(f"shared artifact passed over: {error}", markup=False)
                self._passed_over.add(folder)
        return None

    @contextmanager
    def making(self, spec: ArtifactSpec) -> Iterator[Path | None]:
        """Holds the artifact's lock; yields the work folder, or None when somebody else made it.

        The folder gets its final name when the block ends without an exception; otherwise it stays and the next
        maker goes on in it. The lock is the operating system's, so it dies with its owner.

        Raises:
            UserError: when the store cannot be written to, or has no locks.
        """
        work = self.work_folder(spec)
        note = work.with_suffix(".maker.json")
        with storing(work):
            work.parent.mkdir(parents=True, exist_ok=True)
        with held(work.with_suffix(".lock"), note, f"{spec.step} {spec.label}", locks=self.locks):
            if self.find(spec):
                yield None
                return
            with storing(work):
                work.mkdir(exist_ok=True)
                Maker(spec.step, spec.label, spec.fingerprint, spec.inputs).write(note)
            made_with, started = dict(self._made_with()), time.monotonic()
            yield work
            with storing(work):
                self._finish(spec, work, made_with, seconds=time.monotonic() - started)
                note.unlink(missing_ok=True)

    def _finish(self, spec: ArtifactSpec, work: Path, made_with: dict[str, str], seconds: float) -> None:
        facts = json.loads((work / FACTS).read_text()) if (work / FACTS).exists() else {}
        (work / FACTS).unlink(missing_ok=True)
        _remove_left_beside(work)
        names = file_names(work)
        for name in names:
            flush(work / name)
        manifest = {
            "schema": SCHEMA_VERSION,
            "step": spec.step,
            "label": spec.label,
            "version": spec.version,
            "fingerprint": spec.fingerprint,
            "determined_by": spec.determined_by,
            "inputs": spec.inputs,
            "seconds": round(seconds, 2),  # of the last process that worked on it
            "finished_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),  # for people: clocks differ
            "made_with": made_with,
            "facts": facts,
            "files": {name: (work / name).stat().st_size for name in names},
            "sha256": {name: sha256(work / name) for name in names},
        }
        write_text(work / MANIFEST, json.dumps(manifest, indent=1))
        try:
            os.replace(work, self.folder(spec))
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY) or not self.find(spec):
                raise
            self.discard_work(spec)  # without locks two jobs may have made it; the first one's stays
        flush(self.folder(spec).parent)

    def discard_work(self, spec: ArtifactSpec) -> None:
        """Forgets what a killed maker left."""
        shutil.rmtree(self.work_folder(spec), ignore_errors=True)


def read_whole(folder: Path, spec: ArtifactSpec) -> dict[str, Any]:
    """The manifest of the artifact in `folder`, which is that of `spec` and has all its files.

    Raises:
        FileNotFoundError: if the folder is not there.
        UserError: if it is damaged, or holds another artifact or one of another schema.
    """
    manifest = read_manifest(folder)
    if manifest["schema"] != SCHEMA_VERSION:
        raise UserError(
            f"{folder} was written by another version of mindeye_pl",
            got=f"schema {manifest['schema']}",
            expected=f"schema {SCHEMA_VERSION}",
            fix=f"paths.artifacts=FOLDER for this version, or {remake(folder)}",
        )
    if manifest["fingerprint"] != spec.fingerprint:
        raise UserError(
            f"{folder} holds another artifact",
            got=manifest["fingerprint"][:12],
            expected=spec.fingerprint[:12],
            fix=remake(folder),
        )
    check_sizes(folder, manifest)
    return manifest


def _remove_left_beside(work: Path) -> None:
    for path in work.rglob(".*"):
        if (match := _LEFT_BESIDE.fullmatch(path.name)) and path.with_name(match["name"]).is_file():
            path.unlink()
