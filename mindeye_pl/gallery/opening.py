"""Open the gallery at a path."""

from collections.abc import Callable
from pathlib import Path

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.image_sources import FileGallery, FolderGallery, TarGallery
from mindeye_pl.gallery.source import Gallery
from mindeye_pl.gallery.vector_table import VectorTable, holds_vectors

#: Kinds of galleries by name: from a path and the side of the images to the gallery.
KINDS: dict[str, Callable[[Path, int], Gallery]] = {
    "folder": FolderGallery,
    "tar": lambda path, side: TarGallery(_shards(path), side),
    "hdf5": lambda path, side: FileGallery(path),
    "vectors": lambda path, side: VectorTable(path),
}
#: Infer the kind from the path.
AUTO = "auto"

_TAR, _HDF5, _NPY = ".tar", (".hdf5", ".h5"), ".npy"


def open_gallery(path: Path, image_size: int, kind: str = AUTO) -> Gallery:
    """Return the gallery at a path.

    Args:
        path: a folder of images or of tar shards, a tar shard, an hdf5 file or a `.npy` file.
        image_size: side of the squares to which images of folders and shards are resized.
        kind: one of `KINDS`, or "auto".

    Raises:
        UserError: for an unknown kind, if there is nothing at the path, if it is empty or damaged.
    """
    if not path.exists():
        raise UserError("the gallery does not exist", got=path, fix="retrieve.gallery=PATH, or null for the data's own")
    return KINDS[_kind_of(path) if kind == AUTO else kind](path, image_size)


def _kind_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.is_dir():
        return "tar" if _shards(path) else "folder"
    if suffix == _TAR:
        return "tar"
    if suffix in _HDF5:
        return "vectors" if holds_vectors(path) else "hdf5"
    if suffix == _NPY:
        return "vectors"
    expected, fix = f"a folder, or a file of {[_TAR, *_HDF5, _NPY]}", f"retrieve.source= one of {list(KINDS)}"
    raise UserError("the gallery is of no known kind", got=path, expected=expected, fix=fix)


def _shards(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{_TAR}")) if path.is_dir() else [path]
