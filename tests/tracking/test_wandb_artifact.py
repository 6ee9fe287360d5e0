import os
from pathlib import Path
from typing import Any

import pytest

from mindeye_pl.tracking.wandb_artifact import TrackedFolder, artifact_name, build_artifact

OPTIONS: dict[str, Any] = {"upload": "references", "below_mb": 0.001, "checksums": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "deep" / "model.bin").write_bytes(bytes(5000))
    return tmp_path


def tracked(folder: Path, **more: Any) -> TrackedFolder:
    return TrackedFolder("finetune-x", "checkpoint", "f" * 64, folder, **more)


def test_equal_folders_are_one_version(folder: Path) -> None:
    """The output of a step and the input of the next are one node of the lineage."""
    first, second = (build_artifact(tracked(folder), **OPTIONS) for _ in range(2))
    assert first.digest == second.digest
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 5000)
    os.utime(folder / "deep" / "model.bin", (0, 0))
    assert build_artifact(tracked(folder), **OPTIONS).digest != first.digest


def test_upload_mode_selects_files(folder: Path) -> None:
    def uploaded(**options: Any) -> set[str]:
        entries = build_artifact(tracked(folder), **(OPTIONS | options)).manifest.entries
        assert set(entries) == {"manifest.json", "deep/model.bin"}
        return {name for name, entry in entries.items() if not entry.ref}

    assert uploaded() == {"manifest.json"}
    assert uploaded(below_mb=1.0) == {"manifest.json", "deep/model.bin"}
    assert uploaded(upload="files") == {"manifest.json", "deep/model.bin"}


def test_growing_folder_stays_one_version(folder: Path) -> None:
    first = build_artifact(tracked(folder, grows=True), **OPTIONS)
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 6000)
    assert build_artifact(tracked(folder, grows=True), **OPTIONS).digest == first.digest


def test_without_checksums_large_files_are_not_read(folder: Path) -> None:
    first = build_artifact(tracked(folder), **(OPTIONS | {"checksums": False}))
    (folder / "deep" / "model.bin").write_bytes(bytes([1]) * 5000)
    assert build_artifact(tracked(folder), **(OPTIONS | {"checksums": False})).digest == first.digest


def test_artifact_name_is_valid() -> None:
    assert artifact_name("finetune-subj01 é/1h") == "finetune-subj01-1h"
    assert artifact_name("a" * 200 + "-123").endswith("-123")
    assert len(artifact_name("a" * 200)) == 128
