"""Behaviour arrays in tar shards (MindEye2, spec section 1.2), each shard read once and then kept as an index."""

import hashlib
import os
import tempfile
from pathlib import Path
from tarfile import TarInfo

import numpy as np

from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.data.nsd.tar_files import TarShard


def read_behaviour(shard: Path) -> np.ndarray:
    """Behaviour of every trial in a shard, `(n, 17)` float64 in the shard's order, columns as `nsd.Behaviour`.

    Raises:
        UserError: if the shard is missing, truncated, no tar, or holds other arrays.
    """
    with TarShard(shard, holds="behaviour arrays", fix=FETCH_AGAIN) as tar:
        rows = [_behaviour_row(tar, member) for member in tar.members if member.name.endswith(".behav.npy")]
    return np.concatenate(rows) if rows else np.empty((0, len(Behaviour)))


def _behaviour_row(tar: TarShard, member: TarInfo) -> np.ndarray:
    wanted = f"(1, {len(Behaviour)}) numbers"
    row = tar.read_array(member, wanted)
    if row.shape != (1, len(Behaviour)):
        raise tar.member_error(member.name, "unexpected array", got=f"{row.shape} {row.dtype}", expected=wanted)
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
