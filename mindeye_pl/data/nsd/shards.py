"""Behaviour arrays in tar shards (MindEye2, spec section 1.2); each shard is read once and then kept as an array."""

from pathlib import Path
from tarfile import TarInfo

import numpy as np

from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.files import FETCH_AGAIN
from mindeye_pl.data.nsd.tar_files import TarShard
from mindeye_pl.store.atomic import write_array
from mindeye_pl.store.built_once import FolderKind
from mindeye_pl.store.fingerprint import fingerprint

KIND = FolderKind("behaviour arrays", schema=2, option="paths.cache", cheap=True)
BEHAVIOUR = "behaviour.npy"  # (n, 17) float64


def read_behaviour(shard: Path) -> np.ndarray:
    """Return the behaviour of every trial of a shard in order, `(n, 17)` float64, columns as `nsd.Behaviour`.

    Raises a UserError if the shard is missing, truncated, not a tar file, or contains other arrays.
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
    """Return `read_behaviour(shard)`, cached below `cache_dir` by the shard's path, size and modification time."""
    if not shard.is_file():
        return read_behaviour(shard)  # raises the error
    state = shard.stat()
    by = {"shard": str(shard.resolve()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
    folder = cache_dir / "behaviour" / fingerprint(by)[:20]
    KIND.built(folder, by, lambda work: write_array(work / BEHAVIOUR, read_behaviour(shard)))
    return np.load(folder / BEHAVIOUR, allow_pickle=False)
