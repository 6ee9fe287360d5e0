"""Behaviour arrays in tar shards (MindEye2, spec section 1.2), each shard read once and then kept as an index."""

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from mindeye_pl.data.files import FETCH_AGAIN
from mindeye_pl.errors import UserError
from mindeye_pl.nsd import Behaviour


def read_behaviour(shard: Path) -> np.ndarray:
    """Behaviour of every trial in a shard, `(n, 17)` float64 in the shard's order, columns as `nsd.Behaviour`.

    Raises:
        UserError: if the shard is missing, truncated, no tar, or holds other arrays.
    """
    if not shard.is_file():
        raise UserError(f"{shard} is missing", wanted="a tar shard of behaviour arrays", mend=FETCH_AGAIN)
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [member for member in tar if member.isfile() and member.name.endswith(".behav.npy")]
            # A shard that was cut between two members reads without a complaint; only its end mark is missing.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end-of-archive mark")
            rows = [_behaviour_row(shard, member, tar) for member in members]
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{shard} is truncated or no tar file", seen=error, mend=FETCH_AGAIN) from error
    return np.concatenate(rows) if rows else np.empty((0, len(Behaviour)))


def _behaviour_row(shard: Path, member: tarfile.TarInfo, tar: tarfile.TarFile) -> np.ndarray:
    wanted = f"(1, {len(Behaviour)}) numbers"
    content = tar.extractfile(member)
    assert content is not None, member.name
    try:
        row = np.load(io.BytesIO(content.read()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{shard}, member {member.name}: no numpy array", seen=error, wanted=wanted) from error
    if row.shape != (1, len(Behaviour)) or not np.issubdtype(row.dtype, np.number):
        seen = f"{row.shape} {row.dtype}"
        raise UserError(f"{shard}, member {member.name}: another array", seen=seen, wanted=wanted)
    return row.astype(np.float64)


def indexed_behaviour(shard: Path, cache_dir: Path) -> np.ndarray:
    """As `read_behaviour`, from an index under `cache_dir` where the shard was read before.

    The index is named by the shard's path, size and time of change, so that a changed shard is read again.
    """
    if not shard.is_file():
        return read_behaviour(shard)  # says what is missing
    state = shard.stat()
    key = hashlib.sha256(f"{shard.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:20]
    index = cache_dir / "behaviour" / f"{key}.npy"
    try:
        return np.load(index, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: made anew
        behaviour = read_behaviour(shard)
        _save_whole(index, behaviour)
        return behaviour


def _save_whole(path: Path, array: np.ndarray) -> None:
    """Saves so that the name appears only with the whole file; ranks may do it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
