"""Target tokens of images, embedded once and kept on disk.

One folder belongs to one embedder with one set of weights and one images file. It holds

* `tokens.npy`: (N, S, D) float16, sparse: only rows that were written take room;
* `checksums.npy`: (N,) uint64, 1 + CRC-32 of a row that was written, 0 for the others;
* `manifest.json`: the sizes, and the data that determine the tokens.

Legend: N images in the images file, n images asked for, S tokens, D token width.
"""

import errno
import os
import shutil
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindeye_pl.console import progress_bar
from mindeye_pl.errors import UserError
from mindeye_pl.store.built_once import FolderKind
from mindeye_pl.store.manifest import rebuild

if TYPE_CHECKING:
    from torch import Tensor

KIND = FolderKind("target tokens", schema=3, option="paths.targets", mutable=True)
TOKENS, CHECKSUMS = "tokens.npy", "checksums.npy"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class TokenStore:
    """Target tokens by stimulus id, read through a memory map.

    Cheap to pickle: each process, for instance a data-loader worker, opens the files when it first reads them.
    `open` and `create_or_open` return one of `shape` (N, S, D).
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]):
        self.folder, self.shape = folder, shape

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """Return the store in a folder.

        Raises:
            UserError: if there is none, or its files are damaged.
        """
        sizes = KIND.check(folder)["determined_by"]
        try:
            shape = (sizes["num_stimuli"], sizes["num_tokens"], sizes["token_dim"])
            got: Any = [(array.shape, array.dtype) for array in (_mapped(folder / TOKENS), _mapped(folder / CHECKSUMS))]
        except (OSError, ValueError, KeyError) as error:
            shape, got = (0, 0, 0), repr(error)
        expected = [(shape, np.dtype(np.float16)), (shape[:1], np.dtype(np.uint64))]
        if got != expected:
            fix = f"{rebuild(folder)}, and run again"
            raise UserError(f"{folder} holds files that differ from its manifest", got=got, expected=expected, fix=fix)
        return cls(folder, shape)

    @classmethod
    def create_or_open(
        cls, folder: Path, num_stimuli: int, num_tokens: int, token_dim: int, *, description: dict[str, Any]
    ) -> "TokenStore":
        """Return the store `(N, S, D)` in a folder, created empty if missing; concurrent processes get the same one.

        Args:
            folder: its name should hold a fingerprint of `description`.
            num_stimuli: N.
            num_tokens: S.
            token_dim: D.
            description: plain data, everything that the tokens depend on.

        Raises:
            UserError: if the folder is damaged, or holds tokens of another size or description.
        """
        shape = (num_stimuli, num_tokens, token_dim)
        sizes = {"num_stimuli": num_stimuli, "num_tokens": num_tokens, "token_dim": token_dim}

        def build(work: Path) -> None:
            for name, dtype, rows in ((TOKENS, np.float16, shape), (CHECKSUMS, np.uint64, shape[:1])):
                np.lib.format.open_memmap(work / name, mode="w+", dtype=dtype, shape=rows).flush()

        return cls.open(KIND.built(folder, {**sizes, "description": description}, build))

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "shape": self.shape}

    @cached_property
    def _tokens(self) -> np.ndarray:
        return _mapped(self.folder / TOKENS)  # (N, S, D)

    @cached_property
    def _checksums(self) -> np.ndarray:
        return _mapped(self.folder / CHECKSUMS)  # (N,), shared with the process that fills it

    @cached_property
    def _verified(self) -> np.ndarray:
        return np.zeros(len(self), np.bool_)  # rows that this process has compared with their checksums

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return target tokens `(n, S, D)` float16 of `(n,)` stimulus ids, in this order; ids may repeat.

        Raises:
            UserError: if an image has not been embedded, or its row was changed since.
        """
        ids = self._checked(ids)
        if len(missing := ids[self._checksums[ids] == 0]):
            what = f"{self.folder} lacks the target tokens of {len(missing)} of {len(ids)} images"
            fix = "run the experiment again, which embeds missing images"
            raise UserError(what, got=f"stimulus {missing[0]}", expected="embedded images", fix=fix)
        rows = self._tokens[ids]
        self._verify(ids, rows)
        return rows

    def _verify(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Compare rows with their checksums, each once in a process."""
        for place in np.flatnonzero(~self._verified[ids]):
            if _checksum(rows[place]) != self._checksums[ids[place]]:
                what, fix = f"{self.folder / TOKENS} is damaged", f"{rebuild(self.folder)}, and run again"
                raise UserError(what, got=f"other tokens of stimulus {ids[place]} than were written", fix=fix)
            self._verified[ids[place]] = True

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Return those of the `(n,)` stimulus ids that are not embedded, ascending and unique."""
        ids = np.unique(self._checked(ids))
        return ids[self._checksums[ids] == 0]

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
    ) -> None:
        """Embed those of the images that are missing; a kill loses at most one batch.

        A second process that fills the same store waits, and then finds its rows there.

        Args:
            ids: `(n,)` stimulus ids.
            embed: images `(b, 3, H, W)` to tokens `(b, S, D)`.
            read_images: ascending stimulus ids `(b,)` to images.
            batch_size: maximum of b.

        Raises:
            UserError: if the disk is full, or tokens do not fit into float16.
        """
        with KIND.locked(self.folder):
            missing = self.missing(ids)
            with progress_bar(shown=len(missing) > 0) as bar:
                task = bar.add_task("embedding images", total=len(missing))
                for start in range(0, len(missing), batch_size):
                    batch = missing[start : start + batch_size]
                    self._write(batch, embed(read_images(batch)).detach().half().cpu().numpy())
                    bar.advance(task, len(batch))

    def _write(self, ids: np.ndarray, tokens: np.ndarray) -> None:
        """Write rows to disk before they are marked as done: marked rows are complete even after a power failure."""
        assert tokens.shape == (len(ids), *self.shape[1:]), f"{tokens.shape} tokens for {len(ids)} of {self.shape}"
        if len(broken := ids[~np.isfinite(tokens).all(axis=(1, 2))]):
            raise UserError("target tokens are not finite in float16", got=f"stimulus {broken[0]}")
        try:
            _write_rows(self.folder / TOKENS, ids, tokens)
            _write_rows(self.folder / CHECKSUMS, ids, np.array([_checksum(row) for row in tokens], np.uint64))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            got = f"{shutil.disk_usage(self.folder).free / 1e9:.2f} GB free"
            expected = f"{tokens[0].nbytes / 1e6:.2f} MB for each image"
            fix = "make room, or paths.targets=FOLDER on another disk; finished rows stay"
            raise UserError(
                f"no room for target tokens in {self.folder}", got=got, expected=expected, fix=fix
            ) from error


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _checksum(row: np.ndarray) -> int:
    return 1 + zlib.crc32(np.ascontiguousarray(row).data)


def _write_rows(path: Path, ids: np.ndarray, rows: np.ndarray) -> None:
    """Write rows of a .npy file and flush them to disk.

    Not through the memory map: on a full disk that kills the process, where a file write raises.
    """
    offset = _mapped(path).offset  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        for index, row in zip(ids.tolist(), rows, strict=True):
            file.seek(offset + index * row.nbytes)
            file.write(row.tobytes())
        file.flush()
        os.fsync(file.fileno())
