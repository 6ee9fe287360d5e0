"""Files of a known size, allocated before they are filled, so that a killed preparation can go on.

Later writes change only numbers inside the allocated files: a kill during a write cannot corrupt them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.errors import UserError
from mindeye_pl.store.atomic import replacing


def check_space(root: Path, num_bytes: int, paths: Iterable[Path]) -> None:
    """Raise a UserError if the disk has too little space for the files `paths` of `num_bytes` together.

    What a killed preparation allocated of them counts as space.
    """
    needed = num_bytes - sum(path.stat().st_blocks * 512 for path in paths if path.exists())
    free = shutil.disk_usage(root).free
    if free < needed:
        what, fix = f"{root} has too little disk space", "paths.artifacts=FOLDER, or fewer data.subjects"
        raise UserError(what, got=f"{free / 1e9:.1f} GB", expected=f"{needed / 1e9:.1f} GB", fix=fix)


def allocate(path: Path, name: str, shape: tuple[int, ...], dtype: type) -> None:
    """Create an hdf5 file with one allocated dataset, unless it exists; rows that are never written are holes."""
    if path.exists():
        return
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same content has the same checksum
    version = ("earliest", "v108")  # later formats keep a mark of being written
    with replacing(path) as temporary, open_hdf5(temporary, "w", libver=version) as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, layout)
