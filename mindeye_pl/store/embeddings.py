"""Target tokens of images, embedded once and kept on disk.

One folder belongs to one embedder with one set of weights and one images file. It holds

* `tokens.npy`: (N, S, D) float16, sparse: the disk gives room only to the rows that were written;
* `done.npy`: (N,) bool, whether an image's row is there;
* `manifest.json`: the sizes, and what the tokens were made from.

Legend: N images in the images file, n images asked for, S tokens, D token width.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import write_text

if TYPE_CHECKING:
    from torch import Tensor

#: Raised when the meaning of the files changes.
SCHEMA_VERSION = 1

MANIFEST, TOKENS, DONE = "manifest.json", "tokens.npy", "done.npy"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class TokenStore:
    """A table of target tokens by stimulus id, read through a memory map.

    Cheap to pickle: each process, a data-loader worker for instance, opens the files when it first reads them.

    Args:
        folder: a finished folder; use `open` or `create_or_open`.
        shape: (N, S, D).
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]):
        self.folder, self.shape = folder, shape

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """The store in a folder.

        Raises:
            UserError: if there is none, or its files are damaged.
        """
        fix = f"rm -r {folder}, and run again"
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            shape = (manifest["num_stimuli"], manifest["num_tokens"], manifest["token_dim"])
            found = [(array.shape, array.dtype) for array in (_mapped(folder / TOKENS), _mapped(folder / DONE))]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder} holds no whole target tokens", got=error, fix=fix) from error
        wanted = [(shape, np.dtype(np.float16)), (shape[:1], np.dtype(np.bool_))]
        if found != wanted or manifest["schema"] != SCHEMA_VERSION:
            raise UserError(f"{folder} holds other files than it says", got=found, expected=wanted, fix=fix)
        return cls(folder, shape)

    @classmethod
    def create_or_open(
        cls, folder: Path, num_stimuli: int, num_tokens: int, token_dim: int, *, description: dict[str, Any]
    ) -> "TokenStore":
        """The store in a folder, made empty where there is none; processes that race for it get the same one.

        Args:
            folder: its name should hold a fingerprint of `description`.
            num_stimuli: N.
            num_tokens: S.
            token_dim: D.
            description: plain data, everything that the tokens depend on.

        Raises:
            UserError: if the folder is damaged, or holds tokens of another size or description.
        """
        sizes = {"num_stimuli": num_stimuli, "num_tokens": num_tokens, "token_dim": token_dim}
        manifest = {"schema": SCHEMA_VERSION, **sizes, "description": description}
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(folder):
                if not folder.exists():
                    _create(folder, manifest)
        store = cls.open(folder)
        found = json.loads((folder / MANIFEST).read_text())
        for key, wanted in json.loads(json.dumps(manifest)).items():
            if found.get(key) != wanted:
                raise UserError(
                    f"{folder} holds other target tokens: {key}",
                    got=found.get(key),
                    expected=wanted,
                    fix=f"rm -r {folder}, and run again",
                )
        return store

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "shape": self.shape}

    @cached_property
    def _tokens(self) -> np.ndarray:
        return _mapped(self.folder / TOKENS)  # (N, S, D)

    @cached_property
    def _done(self) -> np.ndarray:
        return _mapped(self.folder / DONE)  # (N,), shared with the process that fills it

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Target tokens `(n, S, D)` float16 of `(n,)` stimulus ids, in the order asked, repeats allowed.

        Raises:
            UserError: if an image has not been embedded.
        """
        ids = self._checked(ids)
        if len(missing := ids[~self._done[ids]]):
            raise UserError(
                f"{self.folder} has no target tokens of {len(missing)} of {len(ids)} images",
                got=f"stimulus {missing[0]}",
                expected="images that were embedded",
                fix="run the experiment again, it embeds what is missing",
            )
        return self._tokens[ids]

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Those of the `(n,)` stimulus ids that have not been embedded, ascending, each once."""
        ids = np.unique(self._checked(ids))
        return ids[~self._done[ids]]

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        assert ids.ndim == 1, f"stimulus ids of shape {ids.shape}"
        assert ids.size == 0 or 0 <= ids.min() <= ids.max() < len(self), f"no stimulus {ids.min()} to {ids.max()}"
        return ids.astype(np.int64)

    def fill(
        self,
        ids: np.ndarray,
        embed: "Callable[[np.ndarray], Tensor]",
        read_images: Callable[[np.ndarray], np.ndarray],
        *,
        batch_size: int,
        progress: bool = True,
    ) -> None:
        """Embeds those of the images that are missing; a kill loses one batch at most.

        A second process that wants to fill the same store waits, and then finds its rows there.

        Args:
            ids: `(n,)` stimulus ids.
            embed: images `(b, 3, H, W)` to tokens `(b, S, D)`.
            read_images: ascending stimulus ids `(b,)` to images.
            batch_size: b at most.
            progress: draws a bar.

        Raises:
            UserError: if the disk is full, or tokens do not fit into float16.
        """
        from rich.progress import Progress

        with _lock(self.folder):
            missing = self.missing(ids)
            with Progress(console=console, disable=not progress or len(missing) == 0, transient=True) as bar:
                task = bar.add_task("embedding images", total=len(missing))
                for start in range(0, len(missing), batch_size):
                    batch = missing[start : start + batch_size]
                    tokens = embed(read_images(batch)).detach().half().cpu().numpy()
                    self._write(batch, tokens)
                    bar.advance(task, len(batch))

    def _write(self, ids: np.ndarray, tokens: np.ndarray) -> None:
        """Rows first, on disk, and only then their marks: what is marked is whole, whenever the power fails."""
        assert tokens.shape == (len(ids), *self.shape[1:]), f"{tokens.shape} tokens for {len(ids)} of {self.shape}"
        if len(broken := ids[~np.isfinite(tokens).all(axis=(1, 2))]):
            raise UserError("target tokens are no finite float16 numbers", got=f"stimulus {broken[0]}")
        try:
            _write_rows(self.folder / TOKENS, ids, tokens)
            _write_rows(self.folder / DONE, ids, np.ones(len(ids), np.bool_))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            free = shutil.disk_usage(self.folder).free
            raise UserError(
                f"no room for target tokens in {self.folder}",
                got=f"{free / 1e9:.2f} GB free",
                expected=f"{tokens[0].nbytes / 1e6:.2f} MB for each image",
                fix="make room, or paths.targets=FOLDER on another disk; what is done stays",
            ) from error


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _create(folder: Path, manifest: dict[str, Any]) -> None:
    """An empty store, made beside and renamed; the caller holds the lock."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    shape = (manifest["num_stimuli"], manifest["num_tokens"], manifest["token_dim"])
    for name, dtype, rows in ((TOKENS, np.float16, shape), (DONE, np.bool_, shape[:1])):
        np.lib.format.open_memmap(beside / name, mode="w+", dtype=dtype, shape=rows).flush()
    write_text(beside / MANIFEST, json.dumps(manifest, indent=1))
    beside.replace(folder)


def _write_rows(path: Path, ids: np.ndarray, rows: np.ndarray) -> None:
    """Writes rows of a .npy file; they are on disk when this returns.

    Not through the memory map: on a full disk that kills the process, where a file only refuses.
    """
    offset = _mapped(path).offset  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        for index, row in zip(ids.tolist(), rows, strict=True):
            file.seek(offset + index * row.nbytes)
            file.write(row.tobytes())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """The folder's lock, which dies with its owner; says so when another process holds it."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"waiting for another process that embeds images into {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
