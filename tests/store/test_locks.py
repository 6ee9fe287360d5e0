"""Several processes, and what a lock cannot be had on."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import ArtifactSpec, ArtifactStore
from mindeye_pl.store.locks import NO_LOCKS, Maker, held_if_free, is_held

SPEC = ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": "abc"})
SPAWN = multiprocessing.get_context("spawn")


def make(store: ArtifactStore, steps: int = 3, seconds: float = 0.0) -> list[int] | None:
    """Makes the artifact, one file after the other; which ones were made now, None if somebody else made it."""
    with store.making(SPEC) as work:
        if work is None:
            return None
        left = [i for i in range(steps) if not (work / str(i)).exists()]
        for i in left:
            time.sleep(seconds)
            (work / str(i)).write_text(f"part {i}")
        return left


def _make(root: Path, queue: Queue, seconds: float, begin_together: object = None) -> None:
    if begin_together is not None:
        begin_together.wait()  # type: ignore[attr-defined]
    queue.put(make(ArtifactStore(root), seconds=seconds))


def wait_for(condition: Callable[[], object], process: SpawnProcess | None = None) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited for a minute"
        assert process is None or process.is_alive()
        time.sleep(0.01)


def has_text(path: Path) -> bool:
    return path.exists() and bool(path.read_text())


@pytest.mark.parametrize("count", [2, 8])
def test_makers_at_once_make_one(tmp_path: Path, count: int) -> None:
    queue, together = SPAWN.Queue(), SPAWN.Barrier(count)
    processes = [SPAWN.Process(target=_make, args=(tmp_path, queue, 0.02, together)) for _ in range(count)]
    for process in processes:
        process.start()
    made = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(made, key=bool) == [*[None] * (count - 1), [0, 1, 2]]
    artifact = ArtifactStore(tmp_path).find(SPEC)
    assert artifact is not None
    assert sorted(artifact.manifest["files"]) == ["0", "1", "2"]


def test_a_waiting_process_resumes_the_work_of_a_killed_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three processes want it; the owner is killed half-way, and then the one that took over."""
    store, queue = ArtifactStore(tmp_path), SPAWN.Queue()
    work = store.work_folder(SPEC)
    note = work.with_suffix(".maker.json")
    first, second = (SPAWN.Process(target=_make, args=(tmp_path, queue, 0.4)) for _ in range(2))
    first.start()
    wait_for(lambda: has_text(work / "0"), first)
    second.start()
    wait_for(lambda: (maker := Maker.read(note)) is not None and maker.pid == first.pid, first)
    assert is_held(work.with_suffix(".lock"))
    assert first.pid is not None
    assert second.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    wait_for(lambda: (maker := Maker.read(note)) is not None and maker.pid == second.pid, second)
    wait_for(lambda: has_text(work / "1"), second)
    os.kill(second.pid, signal.SIGKILL)
    second.join()
    assert store.find(SPEC) is None
    assert is_held(work.with_suffix(".lock")) is False
    left = make(store)
    assert left in ([2], []), "the work of both is gone on with"
    artifact = store.find(SPEC)
    assert artifact is not None
    assert {(artifact.folder / name).read_text() for name in "012"} == {"part 0", "part 1", "part 2"}


def _make_with_a_child(root: Path, queue: Queue) -> None:
    """As a training does whose loader of data is a process of its own, forked while the lock is held."""
    with ArtifactStore(root).making(SPEC):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        queue.put(child)
        time.sleep(60)


def test_a_child_that_outlives_a_killed_owner_does_not_keep_its_lock(tmp_path: Path) -> None:
    queue = SPAWN.Queue()
    owner = SPAWN.Process(target=_make_with_a_child, args=(tmp_path, queue))
    owner.start()
    child = queue.get(timeout=60)
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    try:
        assert make(ArtifactStore(tmp_path)) == [0, 1, 2]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_waiting_process_names_the_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, queue = ArtifactStore(tmp_path), SPAWN.Queue()
    owner = SPAWN.Process(target=_make, args=(tmp_path, queue, 0.3))
    owner.start()
    wait_for((store.work_folder(SPEC) / "0").exists, owner)
    assert make(store) is None
    owner.join()
    assert queue.get() == [0, 1, 2]
    said = capsys.readouterr().out
    assert said.count("waiting for") == 1
    assert f"waiting for process {owner.pid} on {socket.gethostname()}, since 20" in said
    assert "which builds pretrain subj02" in said


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 3}', "null"])
def test_a_damaged_lock_note_blocks_no_process(tmp_path: Path, content: str) -> None:
    store = ArtifactStore(tmp_path)
    note = store.work_folder(SPEC).with_suffix(".maker.json")
    note.parent.mkdir()
    note.write_text(content)
    assert Maker.read(note) is None
    assert make(store) == [0, 1, 2]
    assert not note.exists()


def test_the_lock_note_of_a_failed_process_stays(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError), store.making(SPEC):
        raise RuntimeError
    maker = Maker.read(store.work_folder(SPEC).with_suffix(".maker.json"))
    assert maker is not None
    assert (maker.label, maker.fingerprint, maker.inputs) == ("subj02", SPEC.fingerprint, SPEC.inputs)
    assert maker.pid == os.getpid()


def without_locks(code: int) -> Callable[[int, int], None]:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Not made do with a file that stands for the lock, which a killed owner would leave behind."""
    monkeypatch.setattr(fcntl, "flock", without_locks(code))
    store = ArtifactStore(tmp_path)
    lock = store.work_folder(SPEC).with_suffix(".lock")
    for _ in range(2):
        with pytest.raises(UserError, match=r"has no locks.*artifacts\.locks=none"):
            make(store)
    assert not store.work_folder(SPEC).exists()
    assert is_held(lock) in (None, False), "it cannot be told, or there is no such file"
    with pytest.raises(UserError, match="has no locks"), held_if_free(lock):
        pass
    alone = ArtifactStore(tmp_path, locks=NO_LOCKS)
    assert make(alone) == [0, 1, 2]
    assert store.find(SPEC) is not None, "what is there needs no lock"


def test_without_locks_the_first_of_two_stays(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, locks=NO_LOCKS)
    with store.making(SPEC) as work:
        assert work is not None
        (work / "0").write_text("first to begin")
        with ArtifactStore(tmp_path, locks=NO_LOCKS).making(SPEC) as same:
            assert same == work
        work.mkdir()
        (work / "0").write_text("last to end")
    artifact = store.find(SPEC)
    assert artifact is not None
    assert (artifact.folder / "0").read_text() == "first to begin"
    assert not work.exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_store_that_may_not_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    real, other = os.open, ArtifactSpec("pretrain", "subj02", {"epochs": 4})

    def read_only(path: str, flags: int, *more: int, **keywords: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(code, os.strerror(code), path)
        return real(path, flags, *more, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    assert store.find(SPEC) is not None, "what is there is used"
    match = r"may not be written.*Fix: paths\.artifacts=FOLDER, and paths\.shared_artifacts="
    with pytest.raises(UserError, match=match), store.making(other):
        pass


def test_a_full_disk_keeps_its_own_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = ArtifactStore(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make(store)
    assert store.find(SPEC) is None
    monkeypatch.undo()
    assert make(store) is not None


def test_the_lock_of_another_version_of_the_code_is_respected(tmp_path: Path) -> None:
    """The first version locked the same file, by the same system call."""
    from filelock import FileLock

    store = ArtifactStore(tmp_path)
    lock = store.work_folder(SPEC).with_suffix(".lock")
    lock.parent.mkdir()
    with FileLock(lock):
        assert is_held(lock)
        with held_if_free(lock) as free:
            assert not free
    with held_if_free(lock) as free:
        assert free
    assert is_held(lock) is False
