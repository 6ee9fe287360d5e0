import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.store import embeddings as targets
from mindeye_pl.store.embeddings import TokenStore

N, S, D = 40, 3, 5
DESCRIPTION = {"embedder": {"name": "test", "layers": [1, 2]}, "images": "abc"}
FORK = multiprocessing.get_context("fork")  # the child needs this module's functions and no second import of torch


def store_in(tmp_path: Path) -> TokenStore:
    return TokenStore.create_or_open(tmp_path / "tokens", N, S, D, description=DESCRIPTION)


def read_images(ids: np.ndarray) -> np.ndarray:
    assert np.array_equal(ids, np.unique(ids)), "hdf5 wants ascending ids"
    return np.broadcast_to(ids[:, None, None, None], (len(ids), 3, 2, 2)).astype(np.float16)


def embed(images: np.ndarray) -> torch.Tensor:
    """Tokens that say whose they are: id + position / 10."""
    return torch.from_numpy(images[:, 0, 0, 0]).float()[:, None, None] + torch.arange(S * D).view(S, D) / 10


def expected(ids: np.ndarray) -> np.ndarray:
    return embed(read_images(np.unique(ids))).half().numpy()[np.searchsorted(np.unique(ids), ids)]


def test_tokens_come_back_in_the_order_asked(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.fill(np.array([30, 2, 7, 2, 11]), embed, read_images, batch_size=2)
    asked = np.array([11, 2, 30, 2])
    assert store[asked].dtype == np.float16
    np.testing.assert_array_equal(store[asked], expected(asked))
    np.testing.assert_array_equal(store.missing(np.array([9, 7, 3, 9])), [3, 9])
    assert store[np.array([], dtype=np.int64)].shape == (0, S, D)
    assert len(store) == N


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    store_in(tmp_path).fill(np.array([1, 2, 5]), embed, read_images, batch_size=2)
    (path,) = tmp_path.rglob("tokens.npy")
    with path.open("r+b") as file:
        file.seek(np.load(path, mmap_mode="r").offset + 2 * S * D * 2 + 3)  # in the row of stimulus 2
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    store = TokenStore.open(path.parent)
    np.testing.assert_array_equal(store[np.array([5, 1])], expected(np.array([5, 1])))
    with pytest.raises(UserError, match=r"tokens\.npy is damaged .got: other tokens of stimulus 2"):
        store[np.array([1, 2])]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.fill(np.array([1]), embed, read_images, batch_size=2)
    with pytest.raises(UserError, match=r"1 of 2 images .*stimulus 5"):
        store[np.array([1, 5])]
    for outside in (-1, N):
        with pytest.raises(AssertionError, match="no stimulus"):
            store[np.array([1, outside])]


def test_only_missing_images_are_embedded(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    seen: list[int] = []

    def counting(images: np.ndarray) -> torch.Tensor:
        seen.extend(images[:, 0, 0, 0].astype(int).tolist())
        return embed(images)

    store.fill(np.arange(6), counting, read_images, batch_size=4)
    store_in(tmp_path).fill(np.arange(3, 10), counting, read_images, batch_size=4)
    assert seen == list(range(10))


def test_the_file_is_sparse_and_plain(tmp_path: Path) -> None:
    store = TokenStore.create_or_open(tmp_path / "tokens", 100_000, 64, 64, description={})
    file = store.folder / "tokens.npy"
    assert file.stat().st_size > 800e6
    assert file.stat().st_blocks * 512 < 1e6
    assert np.load(file, mmap_mode="r", allow_pickle=False).shape == (100_000, 64, 64)


def fill_and_die(folder: Path, at_batch: int) -> None:
    batches = 0

    def dying(images: np.ndarray) -> torch.Tensor:
        nonlocal batches
        batches += 1
        if batches == at_batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return embed(images)

    TokenStore.open(folder).fill(np.arange(12), dying, read_images, batch_size=3)


def test_a_kill_loses_one_batch_and_leaves_no_lock(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    process = FORK.Process(target=fill_and_die, args=(store.folder, 3))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    np.testing.assert_array_equal(store.missing(np.arange(12)), np.arange(6, 12))
    np.testing.assert_array_equal(store[np.arange(6)], expected(np.arange(6)))
    store.fill(np.arange(12), embed, read_images, batch_size=3)
    np.testing.assert_array_equal(store[np.arange(12)], expected(np.arange(12)))


def test_an_interrupted_write_is_never_marked_as_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of bytes reaches the disk, no row is marked before all rows of its batch are whole."""
    store = store_in(tmp_path)
    ids = np.arange(4)
    written: list[str] = []
    real = targets._write_rows

    def torn(path: Path, rows_of: np.ndarray, rows: np.ndarray) -> None:
        written.append(path.name)
        real(path, rows_of[:2], rows[:2])
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(targets, "_write_rows", torn)
    with pytest.raises(OSError, match="the disk is gone"):
        store.fill(ids, embed, read_images, batch_size=4)
    assert written == ["tokens.npy"]
    np.testing.assert_array_equal(store.missing(ids), ids)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    store.fill(np.arange(2), embed, read_images, batch_size=2)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(targets.os, "fsync", full)
    with pytest.raises(UserError, match=r"no room for target tokens.*paths\.targets"):
        store.fill(np.arange(4), embed, read_images, batch_size=2)
    np.testing.assert_array_equal(store.missing(np.arange(4)), [2, 3])


def fill_slowly(folder: Path, log: Path) -> None:
    def slow(images: np.ndarray) -> torch.Tensor:
        time.sleep(0.05)
        with log.open("a") as file:
            file.writelines(f"{int(image[0, 0, 0])}\n" for image in images)
        return embed(images)

    store = TokenStore.create_or_open(folder, N, S, D, description=DESCRIPTION)
    store.fill(np.arange(20), slow, read_images, batch_size=5)


def test_concurrent_processes_embed_images_once(tmp_path: Path) -> None:
    processes = [FORK.Process(target=fill_slowly, args=(tmp_path / "tokens", tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [int(line) for line in (tmp_path / "log").read_text().split()] == list(range(20))
    np.testing.assert_array_equal(TokenStore.open(tmp_path / "tokens")[np.arange(20)], expected(np.arange(20)))


def test_a_pickled_store_is_small_and_sees_rows_filled_later(tmp_path: Path) -> None:
    store = TokenStore.create_or_open(tmp_path / "tokens", 1000, 16, 16, description={})
    store.missing(np.arange(1000))  # maps the files
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    twin = pickle.loads(pickled)
    twin.missing(np.arange(3))
    store.fill(np.arange(3), lambda p: torch.ones(len(p), 16, 16), read_images, batch_size=8)
    assert len(twin.missing(np.arange(3))) == 0
    assert (twin[np.arange(3)] == 1).all()


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(UserError, match=r"other target tokens: description.*rm -r"):
        TokenStore.create_or_open(store.folder, N, S, D, description={"embedder": "another"})
    with pytest.raises(UserError, match="other target tokens: token_dim"):
        TokenStore.create_or_open(store.folder, N, S, D + 1, description=DESCRIPTION)
    with pytest.raises(UserError, match="no complete target tokens"):
        TokenStore.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["manifest.json", "tokens.npy", "checksums.npy"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    store = store_in(tmp_path)
    path = store.folder / name
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="rm -r"):
        TokenStore.open(store.folder)


def test_a_manifest_that_disagrees_with_the_files_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    manifest["determined_by"]["num_stimuli"] = N - 1
    (store.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="differ from its manifest"):
        TokenStore.open(store.folder)


def test_tokens_beyond_float16_are_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(UserError, match="stimulus 3"):
        store.fill(
            np.arange(5),
            lambda p: torch.where(torch.from_numpy(p[:, 0, 0, 0])[:, None, None] == 3, 1e6, 1.0).expand(-1, S, D),
            read_images,
            batch_size=8,
        )
    assert len(store.missing(np.arange(5))) == 5


def test_import_is_cheap() -> None:
    modules = "[m for m in ('torch', 'h5py', 'open_clip') if m in sys.modules]"
    code = f"import sys, mindeye_pl.store.embeddings; print({modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
