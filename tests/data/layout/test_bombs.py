"""Files that declare more than they hold, lead elsewhere, or are no files: refused in one line, without allocation."""

import io
import os
import resource
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mindeye_pl.data.image_sources import read_pixels, read_size
from mindeye_pl.data.layout.hdf5 import open_dataset, read_rows
from mindeye_pl.data.layout.shards import TarShard, read_behaviour
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.files import open_gallery
from mindeye_pl.store.fingerprint import fingerprint_file

PETABYTE = 2**50


@pytest.fixture(autouse=True)
def _no_more_memory() -> Iterator[None]:
    """Let an allocation of gigabytes fail, which Linux would grant until it is written to."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def npy(shape: tuple[int, ...], content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    header = file.getvalue()
    return header[:6] + bytes(version) + header[8:] + content if version == (1, 0) else header + content


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def declare(path: Path, size: int, place: int = 0) -> Path:
    """Write another size into the header of a tar file's first member, with its checksum."""
    block = bytearray(path.read_bytes())
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block[place + 124 : place + 136] = octal
    block[place + 148 : place + 156] = b" " * 8
    block[place + 148 : place + 156] = b"%06o\0 " % sum(block[place : place + 512])
    path.write_bytes(block)
    return path


@pytest.mark.parametrize("shape", [(1, PETABYTE), (PETABYTE,), (1, 18), (1, 16), (-1, 17), (2**40, 2**40)])
def test_an_array_that_declares_another_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    content = npy(shape, bytes(17 * 8))
    with pytest.raises(UserError, match=r"not a numpy array|unexpected array") as error:
        read_behaviour(tar(tmp_path / "0.tar", (tarfile.TarInfo("sample000000000.behav.npy"), content)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [2**33 - 1, PETABYTE])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_member_that_declares_another_size(kind: bytes, size: int, tmp_path: Path) -> None:
    info = tarfile.TarInfo("sample000000000.behav.npy")
    path = declare(tar(tmp_path / "0.tar", (info, npy((1, 17), bytes(17 * 8)))), size)
    block = bytearray(path.read_bytes())
    block[156:157] = kind
    path.write_bytes(block)
    declare(path, size)
    with (
        pytest.raises(UserError, match="truncated or not a tar file"),
        TarShard(path, holds="trials", fix="copy") as file,
    ):
        file.read(file.members[0])


def test_a_sparse_member(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sample000000000.behav.npy")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
    info.pax_headers |= {"GNU.sparse.size": str(PETABYTE), "GNU.sparse.map": "0,8", "GNU.sparse.name": info.name}
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as file:
        info.size = 8
        file.addfile(info, io.BytesIO(bytes(8)))
    with pytest.raises(UserError, match="sparse"), TarShard(tmp_path / "0.tar", holds="trials", fix="copy"):
        pass


@pytest.mark.parametrize("read", [read_size, read_pixels])
def test_an_image_of_a_billion_pixels(read: Callable[[Path], Any], tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))))
    with pytest.raises(UserError, match=r"a\.png is damaged or not an image"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(PETABYTE, 4), (3, PETABYTE)])
def test_a_table_of_vectors_that_declares_another_size(shape: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, bytes(96)))
    with pytest.raises(UserError, match=r"a\.npy is damaged"):
        open_gallery(tmp_path / "a.npy", 8)


def linked(file: h5py.File, kind: str) -> None:
    match kind:
        case "an external link":
            file["betas"] = h5py.ExternalLink("other.hdf5", "betas")
        case "a soft link to an external link":
            file["far"] = h5py.ExternalLink("other.hdf5", "betas")
            file["betas"] = h5py.SoftLink("/far")
        case "a loop":
            file["betas"] = h5py.SoftLink("/other")
            file["other"] = h5py.SoftLink("/betas")
        case "a link to nothing":
            file["betas"] = h5py.SoftLink("/nowhere")
        case "a group":
            file.create_group("betas")
        case "a type":
            file["betas"] = np.dtype("f4")
        case "raw data elsewhere":
            file.create_dataset("betas", (4,), "f4", external=[("other.raw", 0, 16)])
        case "text":
            file["betas"] = ["a", "b"]
        case "records":
            file["betas"] = np.zeros(2, [("x", "f4"), ("y", "f4")])
        case "complex numbers":
            file["betas"] = np.zeros((2, 3), "c8")
        case "references":
            file.create_dataset("betas", (2,), h5py.ref_dtype)
        case "a petabyte":
            file.create_dataset("betas", (2**20, 2**28), "f4", chunks=(1, 1024))


KINDS = """an external link, a soft link to an external link, a loop, a link to nothing, a group, a type,
raw data elsewhere, text, records, complex numbers, references, a petabyte"""


@pytest.mark.parametrize("kind", KINDS.replace("\n", " ").split(", "))
def test_datasets_of_another_kind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(16))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["betas"] = np.zeros((2, 3))
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        linked(file, kind)
    with pytest.raises(UserError) as error, open_dataset(tmp_path / "a.hdf5", "betas") as dataset:
        read_rows(dataset, np.arange(2))
    assert "a.hdf5" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i2", "<f2"])
@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3), "compression": "gzip", "shuffle": True}], ids=["", "gzip"])
def test_byte_orders_of_other_machines(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    stored = (np.arange(15).reshape(5, 3) * 1.5).astype(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("betas", data=stored, **options)
    rows = np.array([4, 0, 0, 2])
    with open_dataset(tmp_path / "a.hdf5", "betas") as dataset:
        found = read_rows(dataset, rows)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, stored[rows])


def test_a_compressed_file_of_zeros_is_whole(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("betas", data=np.zeros((1000, 20_000), np.float32), chunks=(1000, 1000), compression="gzip")
    with open_dataset(tmp_path / "a.hdf5", "betas") as dataset:
        assert dataset.shape == (1000, 20_000)


NO_FILES = {
    "hdf5": lambda path: open_dataset(path, "betas").__enter__(),
    "tar": lambda path: TarShard(path, holds="trials", fix="copy").__enter__(),
    "image": read_pixels,
    "gallery": lambda path: open_gallery(path, 8, "hdf5"),
    "vectors": lambda path: open_gallery(path, 8, "vectors"),
    "shards of a gallery": lambda path: open_gallery(path, 8, "tar").fingerprint(),
    "fingerprint": fingerprint_file,
}


@pytest.mark.parametrize("entry", NO_FILES)
def test_pipes_and_devices_are_not_read(entry: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", Path("/dev/zero"), Path("/dev/full")):
        with pytest.raises(UserError, match=r"is not a file \(got: a (named pipe|device)"):
            NO_FILES[entry](path)


@pytest.mark.parametrize("entry", NO_FILES)
def test_a_file_without_permission_is_not_damaged(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "lab.hdf5").write_bytes(b"of somebody else")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a superuser may read all
    with pytest.raises(UserError, match=r"lab\.hdf5 may not be read \(got: permission denied\)\. Fix: chmod u\+r"):
        NO_FILES[entry](path)
