import os
from pathlib import Path
from typing import Any

import pytest

from mindeye_pl.tracking.wandb_artifact import TrackedFolder, artifact_name, artifact_of

HOW: dict[str, Any] = {"upload": "references", "below_mb": 0.001, "checksums": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "deep" / "model.bin").write_bytes(bytes(5000))
    return tmp_path


def tracked(folder: Path, **more: Any) -> TrackedFolder:
    return TrackedFolder("finetune-x", "checkpoint", "f" * 64, folder, **more)


def test_twice_the_same_folder_is_one_version(folder: Path) -> None:
    """What a step made and what the next one used are one node of the lineage."""
    first, second = (artifact_of(tracked(folder), **HOW) for _ in range(2))
    assert first.digest == second.digest
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 5000)
    os.utime(folder / "deep" / "model.bin", (0, 0))
    assert artifact_of(tracked(folder), **HOW).digest != first.digest


def test_which_files_are_uploaded(folder: Path) -> None:
    def uploaded(**how: Any) -> set[str]:
        entries = artifact_of(tracked(folder), **(HOW | how)).manifest.entries
        assert set(entries) == {"manifest.json", "deep/model.bin"}
        return {name for name, entry in entries.items() if not entry.ref}

    assert uploaded() == {"manifest.json"}
    assert uploaded(below_mb=1.0) == {"manifest.json", "deep/model.bin"}
    assert uploaded(upload="files") == {"manifest.json", "deep/model.bin"}


def test_a_store_that_grows_stays_one_version(folder: Path) -> None:
    first = artifact_of(tracked(folder, grows=True), **HOW)
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 6000)
    assert artifact_of(tracked(folder, grows=True), **HOW).digest == first.digest


def test_without_checksums_nothing_large_is_read(folder: Path) -> None:
    first = artifact_of(tracked(folder), **(HOW | {"checksums": False}))
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 5000)
    assert artifact_of(tracked(folder), **(HOW | {"checksums": False})).digest == first.digest


def test_names_that_wandb_takes() -> None:
    assert artifact_name("finetune-subj01 é/1h") == "finetune-subj01-1h"
    assert artifact_name("a" * 200 + "-123").endswith("-123")
    assert len(artifact_name("a" * 200)) == 128
