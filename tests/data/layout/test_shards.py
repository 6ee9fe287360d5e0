import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.layout import shards
from mindeye_pl.data.layout.shards import indexed_behaviour, read_behaviour
from mindeye_pl.errors import UserError
from tests.data.small_nsd import add_array, write_shard


@pytest.fixture
def behaviour() -> np.ndarray:
    return np.random.default_rng(0).random((5, 17))


@pytest.fixture
def shard(tmp_path: Path, behaviour: np.ndarray) -> Path:
    path = tmp_path / "0.tar"
    write_shard(path, enumerate(behaviour))
    return path


def test_read_behaviour_reads_the_members_in_order(shard, behaviour):
    np.testing.assert_array_equal(read_behaviour(shard), behaviour)


def test_empty_shard_has_no_trials(tmp_path: Path):
    write_shard(tmp_path / "0.tar", [])
    assert read_behaviour(tmp_path / "0.tar").shape == (0, 17)


def test_second_reading_uses_the_index(shard, behaviour, tmp_path, monkeypatch):
    indexed_behaviour(shard, tmp_path / "cache")
    monkeypatch.setattr(shards, "read_behaviour", lambda shard: pytest.fail("the tar was read again"))
    np.testing.assert_array_equal(indexed_behaviour(shard, tmp_path / "cache"), behaviour)


def test_changed_shard_is_read_again(shard, behaviour, tmp_path):
    indexed_behaviour(shard, tmp_path / "cache")
    write_shard(shard, enumerate(behaviour[::-1]))  # same size
    os.utime(shard, ns=(1, 1))
    np.testing.assert_array_equal(indexed_behaviour(shard, tmp_path / "cache"), behaviour[::-1])


def test_damaged_index_is_rebuilt(shard, behaviour, tmp_path):
    indexed_behaviour(shard, tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob("*.npy")
    index.write_bytes(index.read_bytes()[:50])
    np.testing.assert_array_equal(indexed_behaviour(shard, tmp_path / "cache"), behaviour)


def test_failed_write_leaves_no_file(shard, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        indexed_behaviour(shard, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_every_truncation_is_refused(shard):
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        tar.getmembers()
        end = tar.offset
    for length in (*range(0, end + 1, 512), end - 100, 700):  # 512 is tar's block size: whole members remain
        shard.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"0\.tar is truncated or not a tar file"):
            read_behaviour(shard)


def test_file_that_is_not_a_tar_is_refused(shard):
    shard.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(UserError, match=r"0\.tar is truncated or not a tar file"):
        read_behaviour(shard)


def test_corrupted_header_is_refused(shard):
    whole = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        offset = tar.getmembers()[4].offset
    whole[offset : offset + 512] = b"x" * 512
    shard.write_bytes(whole)
    with pytest.raises(UserError, match=r"0\.tar is truncated"):
        read_behaviour(shard)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("code in a pickle ran",)


def test_pickled_array_is_not_executed(tmp_path: Path):
    data = io.BytesIO(b"")
    np.lib.format.write_array_header_1_0(data, {"descr": "|O", "fortran_order": False, "shape": (1, 17)})
    data.write(pickle.dumps(Bomb()))
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("sample000000000.behav.npy")
        member.size = data.tell()
        data.seek(0)
        tar.addfile(member, data)
    with pytest.raises(UserError, match=r"0\.tar, member sample000000000\.behav\.npy: not a numpy array"):
        read_behaviour(path)


@pytest.mark.parametrize("array", [np.zeros((1, 16)), np.zeros(17), np.full((1, 17), "a")])
def test_array_of_another_shape_is_refused(tmp_path: Path, array):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add_array(tar, "sample000000000.behav.npy", array)
    with pytest.raises(UserError, match=r"unexpected array .*expected: \(1, 17\) numbers"):
        read_behaviour(tmp_path / "0.tar")


def test_missing_shard_is_refused(tmp_path: Path):
    for read in (read_behaviour, lambda path: indexed_behaviour(path, tmp_path / "cache")):
        with pytest.raises(UserError, match=r"7\.tar is missing"):
            read(tmp_path / "7.tar")


@pytest.mark.parametrize("name", ["sample000000000.BEHAV.NPY", "sample000000000.behaviour.npy"])
def test_members_of_other_names_are_named(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match=rf"0\.tar holds no behaviour arrays \(got: {name}; expected: NAME\.behav"):
        read_behaviour(tmp_path / "0.tar")


def test_files_of_macos_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("._sample000000000.behav.npy", "folder/._x.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert len(read_behaviour(tmp_path / "0.tar")) == 0
