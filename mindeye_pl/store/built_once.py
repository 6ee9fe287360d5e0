"""Folders that are built once, atomically and under a lock, and described by the plain data that determine them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import remove, replacing
from mindeye_pl.store.fingerprint import plain
from mindeye_pl.store.locks import IF_SUPPORTED, held
from mindeye_pl.store.manifest import FOLDER_ENTRIES, check_sizes, compare, read_manifest, rebuild, write_manifest


@dataclass(frozen=True)
class FolderKind:
    """Properties that all folders of one kind share.

    Attributes:
        what: their content, for messages: "target tokens".
        schema: raised when the meaning of the files changes.
        option: configuration key of the folder above them.
        mutable: files change after the folder is built, so that they have no checksums.
        cheap: damaged folders are rebuilt; others are refused, since they may be worth hours.
    """

    what: str
    schema: int
    option: str
    mutable: bool = False
    cheap: bool = False

    def built(self, folder: Path, determined_by: dict[str, Any], build: Callable[[Path], None]) -> Path:
        """Return the folder, which one of the processes that want it builds if it is missing.

        Args:
            folder: final path; its name should hold a fingerprint of `determined_by`.
            determined_by: plain data, everything that the content depends on.
            build: writes the files into an empty folder.

        Raises:
            UserError: as `check`; if the folder may not be written.
        """
        if not self._is_built(folder, determined_by):
            with self.locked(folder):
                if not self._is_built(folder, determined_by):
                    remove(folder)
                    with replacing(folder, only_writer=True) as work:
                        work.mkdir()
                        build(work)
                        entries = {"schema": self.schema, "determined_by": determined_by}
                        write_manifest(work, checksums=not self.mutable, **entries)
        self.check(folder, determined_by)
        return folder

    def locked(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the folder's lock inside a `with` block; go without on a file system that has no locks."""
        lock = folder.with_name(f".{folder.name}.lock")
        return held(lock, f"{self.what} in {folder}", locks=IF_SUPPORTED, option=self.option)

    def _is_built(self, folder: Path, determined_by: dict[str, Any]) -> bool:
        if not self.cheap or not folder.exists():
            return folder.exists()
        try:
            self.check(folder, determined_by)
        except UserError:
            return False
        return True

    def check(self, folder: Path, determined_by: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the manifest of a finished folder; `determined_by` is compared with the manifest's, unless None.

        Raises:
            UserError: if the folder is missing or damaged, of another schema, or determined by other data.
        """
        fix = f"{rebuild(folder)}, and run again"
        try:
            manifest = read_manifest(folder, FOLDER_ENTRIES)
            check_sizes(folder, manifest)
        except (UserError, FileNotFoundError) as error:
            got = f"{error.what}: {error.got}" if isinstance(error, UserError) else "no such folder"
            raise UserError(f"{folder} holds no complete {self.what}", got=got, fix=fix) from error
        if manifest["schema"] != self.schema:
            got = f"schema {manifest['schema']}"
            raise UserError(f"{folder} holds other {self.what}", got=got, expected=f"schema {self.schema}", fix=fix)
        if not self.mutable and (differences := compare(folder, manifest, checksums=True)):
            raise UserError(f"{folder} holds damaged {self.what}", got=differences, fix=fix)
        for key, expected in plain(determined_by or {}).items():
            if (got := manifest["determined_by"].get(key)) != expected:
                raise UserError(f"{folder} holds other {self.what}: {key}", got=got, expected=expected, fix=fix)
        return manifest
