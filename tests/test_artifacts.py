import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mindeye_pl.artifacts import MANIFEST, ArtifactSpec, ArtifactStore, fingerprint, write_text
from mindeye_pl.errors import UserError

SPEC = ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": "abc"})


def make(store: ArtifactStore, spec: ArtifactSpec = SPEC, content: str = "weights") -> bool:
    with store.making(spec) as work:
        if work is None:
            return False
        (work / "model").write_text(content)
    return True


def test_the_fingerprint_depends_on_all_that_determines_and_on_nothing_else() -> None:
    same = ArtifactSpec("pretrain", "another label", {"epochs": 3}, {"data": "abc"})
    assert same.fingerprint == SPEC.fingerprint
    others = [
        ArtifactSpec("finetune", "subj02", {"epochs": 3}, {"data": "abc"}),
        ArtifactSpec("pretrain", "subj02", {"epochs": 4}, {"data": "abc"}),
        ArtifactSpec("pretrain", "subj02", {"epochs": 3}, {"data": "abd"}),
    ]
    assert len({spec.fingerprint for spec in [SPEC, *others]}) == 4
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})


def test_made_once_and_found_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.find(SPEC) is None
    assert make(store)
    assert not make(store, content="other")
    artifact = store.find(SPEC)
    assert artifact is not None
    assert (artifact.folder / "model").read_text() == "weights"
    assert artifact.fingerprint == SPEC.fingerprint
    assert artifact.manifest["files"] == {"model": len("weights")}


def fail_half_way(store: ArtifactStore) -> None:
    with store.making(SPEC) as work:
        assert work is not None
        (work / "half").write_text("half")
        raise RuntimeError


def test_a_failed_maker_leaves_work_but_no_artifact(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError):
        fail_half_way(store)
    assert store.find(SPEC) is None
    with store.making(SPEC) as work:
        assert work is not None
        assert (work / "half").read_text() == "half"  # taken up, not begun again


def _hold(root: Path, ready: Path) -> None:
    with ArtifactStore(root).making(SPEC) as work:
        assert work is not None
        (work / "half").write_text("half")
        ready.touch()
        time.sleep(60)


def test_a_killed_maker_frees_its_lock_and_leaves_no_artifact(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "store", ready))
    process.start()
    while not ready.exists():
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = ArtifactStore(tmp_path / "store")
    assert store.find(SPEC) is None
    assert make(store)
    assert store.find(SPEC) is not None


def _make_and_report(root: Path, queue: multiprocessing.Queue) -> None:
    queue.put(make(ArtifactStore(root)))


def test_two_makers_at_once_make_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_make_and_report, args=(tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    made = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert made == [False, True]


@pytest.mark.parametrize("content", ["", "{", "{}", json.dumps({"fingerprint": "of something else"})])
def test_a_broken_manifest_is_one_line_and_never_reused(tmp_path: Path, content: str) -> None:
    store = ArtifactStore(tmp_path)
    make(store)
    (store.folder(SPEC) / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=r"Mend: rm -r"):
        store.find(SPEC)


def test_write_text_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
