from pathlib import Path

import pytest

from mindeye_pl.tracking.sync import sync_command


def record(folder: Path, time: str, run_id: str, *, synced: bool = False) -> None:
    run = folder / f"offline-run-20260101_{time}-{run_id}"
    run.mkdir(parents=True)
    (run / f"run-{run_id}.wandb").touch()
    if synced:
        (run / f"run-{run_id}.wandb.synced").touch()


def test_sync_command_of_several_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "wandb"
    record(folder, "000001", "aa")
    record(folder, "000002", "bb", synced=True)
    record(folder, "000003", "cc")
    record(folder, "000004", "dd")
    assert sync_command([folder], ["aa", "bb", "nn"]) == "wandb sync outputs/wandb/offline-run-*-aa"
    assert sync_command([folder], ["cc", "aa", "bb"]) == "wandb sync outputs/wandb/offline-run-*-{aa,cc}"
    assert sync_command([folder], ["bb"]) is None
    monkeypatch.chdir("/")
    assert sync_command([folder], ["aa"]) == f"wandb sync {folder.relative_to('/')}/offline-run-*-aa"


def test_resumed_run_is_uploaded_with_resume(tmp_path: Path) -> None:
    record(tmp_path, "000001", "aa", synced=True)
    record(tmp_path, "000002", "aa")
    command = sync_command([tmp_path], ["aa"])
    assert command is not None
    assert command.startswith("WANDB_RESUME=allow wandb sync ")
