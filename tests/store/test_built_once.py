"""Folders that are built once: by one of several processes, whole or not at all."""

import fcntl
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from mindeye_pl.errors import UserError
from mindeye_pl.store.built_once import FolderKind
from mindeye_pl.store.manifest import MANIFEST

KIND = FolderKind("things", schema=3, option="paths.things")
BY = {"k": 2, "layers": (1, 2), "voxels": {1: 40, 10: 60}}
SPAWN = multiprocessing.get_context("spawn")


def build(work: Path, content: str = "built") -> None:
    (work / "file").write_text(content)


def never(work: Path) -> None:
    pytest.fail("built again")


def test_built_once_and_described(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "things"
    assert KIND.built(folder, BY, build) == folder
    assert KIND.built(folder, BY, never) == folder
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["determined_by"] == json.loads(json.dumps(BY))
    assert manifest["schema"] == 3
    assert manifest["files"] == {"file": 5}
    assert len(manifest["sha256"]["file"]) == 64
    assert KIND.check(folder) == manifest


def _build_slowly(folder: Path, queue: Queue, seconds: float) -> None:
    def slowly(work: Path) -> None:
        build(work)
        queue.put(os.getpid())
        time.sleep(seconds)

    KIND.built(folder, BY, slowly)


def test_one_of_several_processes_builds(tmp_path: Path) -> None:
    queue: Queue = SPAWN.Queue()
    processes = [SPAWN.Process(target=_build_slowly, args=(tmp_path / "things", queue, 0.2)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    queue.get(timeout=10)
    assert queue.empty()


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    queue: Queue = SPAWN.Queue()
    process = SPAWN.Process(target=_build_slowly, args=(tmp_path / "things", queue, 60))
    process.start()
    queue.get(timeout=60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "things").exists()
    KIND.built(tmp_path / "things", BY, build)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".things.lock", "things"]


def test_damage(tmp_path: Path) -> None:
    folder = KIND.built(tmp_path / "things", BY, build)
    (folder / "file").write_text("bui")
    with pytest.raises(UserError, match=r"no complete things.*of 3 bytes.*Fix: rm -r .*things, and run again"):
        KIND.built(folder, BY, never)
    (folder / "file").write_text("other")
    with pytest.raises(UserError, match=r"damaged things.*another checksum"):
        KIND.built(folder, BY, never)
    assert replace(KIND, mutable=True).built(folder, BY, never) == folder
    assert replace(KIND, cheap=True).built(folder, BY, build) == folder
    assert (folder / "file").read_text() == "built"
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match="no complete things"):
        KIND.check(folder)


def test_other_data_and_schemas_are_refused(tmp_path: Path) -> None:
    folder = KIND.built(tmp_path / "things", BY, build)
    with pytest.raises(UserError, match=r"other things: k \(got: 2; expected: 3\)"):
        KIND.built(folder, BY | {"k": 3}, never)
    with pytest.raises(UserError, match=r"schema 3.*schema 4"):
        replace(KIND, schema=4).built(folder, BY, never)


def test_a_file_system_without_locks_builds_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    KIND.built(tmp_path / "things", BY, build)
    assert KIND.check(tmp_path / "things")


def test_a_folder_that_may_not_be_written_names_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"in the way.*paths\.things=FOLDER"):
        KIND.built(tmp_path / "file" / "things", BY, build)
