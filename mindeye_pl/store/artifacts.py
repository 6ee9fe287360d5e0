"""Artifacts: results of steps on disk, named by the fingerprint of the data that determine them.

A step writes into a hidden work folder, which survives a kill and is resumed. At the end the manifest is written,
everything is flushed, and one rename gives the folder its final name: a folder of that name is complete.
Sizes are compared at every reuse, checksums by `pipeline=artifacts`.
"""

import os
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
from mindeye_pl.store.atomic import flush, flush_all, remove_temporaries
from mindeye_pl.store.fingerprint import fingerprint, folder_name
from mindeye_pl.store.locks import REQUIRED, Maker, held, storing
from mindeye_pl.store.manifest import check_sizes, read_manifest, rebuild, write_manifest
from mindeye_pl.store.own_files import read_json, run_again

#: Raised when the meaning of every artifact's files changes; part of every fingerprint.
SCHEMA_VERSION = 3

#: File in which a step leaves facts for its manifest, a json object.
FACTS = "facts.json"


@dataclass(frozen=True)
class ArtifactSpec:
    """Everything that determines an artifact.

    Attributes:
        step: name of the step that builds it, a folder of the store.
        label: readable part of the folder's name, not of the fingerprint; characters that a name may not have are
            replaced.
        determined_by: plain data, everything that the content depends on.
        inputs: fingerprints of the artifacts and data that it is built from, by name.
        version: raised when the same settings mean other content.
    """

    step: str
    label: str
    determined_by: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", folder_name(self.label))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the whole spec but the label."""
        content = {"step": self.step, "version": self.version, "by": self.determined_by, "inputs": self.inputs}
        return fingerprint({"schema": SCHEMA_VERSION, **content})

    @property
    def name(self) -> str:
        """Name of the folder below the step's folder."""
        return f"{self.label}-{self.fingerprint[:12]}"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the spec that it was built from."""
        return self.manifest["fingerprint"]


class ArtifactStore:
    """All artifacts below a folder.

    Args:
        root: that folder; artifacts are built here.
        shared: another store, for instance of a laboratory, which is read where `root` lacks an artifact. Nothing is
            written there.
        locks: `required`, or `none` for a file system without locks and one job at a time.
        made_with: versions and machine, written into manifests for people and not part of fingerprints.
    """

    def __init__(
        self, root: Path, shared: Path | None = None, *, locks: str = REQUIRED, made_with: Callable[[], Mapping] = dict
    ):
        self.root, self.locks, self._made_with = root, locks, made_with
        self._skipped: set[Path] = set()
        if shared is not None and not shared.is_dir():
            raise UserError("paths.shared_artifacts is not a folder", got=shared, fix="paths.shared_artifacts=null")
        self.shared = shared if shared is not None and shared.resolve() != root.resolve() else None

    def folder(self, spec: ArtifactSpec) -> Path:
        """Return the path of the finished artifact in `root`."""
        return self.root / spec.step / spec.name

    def work_folder(self, spec: ArtifactSpec) -> Path:
        """Return the folder in which the artifact is built; it stays when the process is killed."""
        return self.root / spec.step / f".{spec.fingerprint[:12]}.work"

    def find(self, spec: ArtifactSpec) -> Artifact | None:
        """Return the finished artifact of `root`, else of the shared store; None if it is missing.

        Its files exist and have the right sizes; `pipeline=artifacts artifacts.action=verify` reads them.

        Raises:
            UserError: if the folder is incomplete, not readable, or holds something else. The shared store's, which
                only its owner can fix, is skipped with a message.
        """
        for root in filter(None, (self.root, self.shared)):
            if not os.path.lexists(folder := root / spec.step / spec.name):
                continue
            try:
                return Artifact(folder, _read_complete(folder, spec))
            except FileNotFoundError:  # removed since
                return None
            except UserError as error:
                if root is self.root:
                    raise
                if folder not in self._skipped:
                    console.print(f"shared artifact skipped: {error}", markup=False)
                self._skipped.add(folder)
        return None

    @contextmanager
    def making(self, spec: ArtifactSpec) -> Iterator[Path | None]:
        """Hold the artifact's lock; yield the work folder, or None if another process built it.

        The folder gets its final name when the block ends without an exception. Otherwise it stays and the next process
        resumes in it. The lock belongs to the operating system and dies with its owner.

        Raises:
            UserError: if the store cannot be written to, or has no locks.
        """
        work = self.work_folder(spec)
        note = work.with_suffix(".maker.json")
        with storing(work):
            work.parent.mkdir(parents=True, exist_ok=True)
        with held(work.with_suffix(".lock"), f"{spec.step} {spec.label}", note=note, locks=self.locks):
            if self.find(spec):
                yield None
                return
            with storing(work):
                work.mkdir(exist_ok=True)
                Maker(spec.step, spec.label, spec.fingerprint, spec.inputs).write(note)
            made_with, started = dict(self._made_with()), time.monotonic()
            yield work
            with storing(work):
                seconds = round(time.monotonic() - started, 2)  # of the last process that worked on it
                self._finish(spec, work, made_with=made_with, seconds=seconds)
                note.unlink(missing_ok=True)

    def _finish(self, spec: ArtifactSpec, work: Path, **entries: Any) -> None:
        facts = read_json(work / FACTS, fix=run_again(work / FACTS)) if (work / FACTS).exists() else {}
        (work / FACTS).unlink(missing_ok=True)
        remove_temporaries(work)
        write_manifest(
            work,
            schema=SCHEMA_VERSION,
            **vars(spec),
            fingerprint=spec.fingerprint,
            finished_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),  # for people: clocks differ
            facts=facts,
            **entries,
        )
        flush_all(work)
        try:
            os.replace(work, self.folder(spec))
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY) or not self.find(spec):
                raise
            shutil.rmtree(work, ignore_errors=True)  # without locks two jobs may have built it; the first one stays
        flush(self.folder(spec).parent)


def _read_complete(folder: Path, spec: ArtifactSpec) -> dict[str, Any]:
    """Return the manifest of the artifact in `folder`, which is that of `spec` and has all its files."""
    manifest = read_manifest(folder)
    if manifest["schema"] != SCHEMA_VERSION:
        raise UserError(
            f"{folder} was written by another version of mindeye_pl",
            got=f"schema {manifest['schema']}",
            expected=f"schema {SCHEMA_VERSION}",
            fix=f"paths.artifacts=FOLDER for this version, or {rebuild(folder)}",
        )
    if manifest["fingerprint"] != spec.fingerprint:
        got, expected = manifest["fingerprint"][:12], spec.fingerprint[:12]
        raise UserError(f"{folder} holds another artifact", got=got, expected=expected, fix=rebuild(folder))
    check_sizes(folder, manifest)
    return manifest
