"""W&B runs, and failures of W&B."""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindeye_pl.tracking import wandb_run
from mindeye_pl.tracking.wandb_artifact import TrackedFolder
from mindeye_pl.tracking.wandb_run import RunIdentity, TrackedRun, start_run
from tests.tracking.offline_record import finished_record
from tests.tracking.wandb_server import KEY, WandbServer, wandb_server

HOW: dict[str, Any] = {"upload": "references", "below_mb": 1.0, "checksums": True}


def identity(run_id: str = "abc123") -> RunIdentity:
    return RunIdentity(
        project="mindeye_pl",
        entity=None,
        id=run_id,
        name="finetune subj01-1h",
        group="finetune_subj01_1h",
        job_type="finetune",
        tags=["subj01", "simulated"],
        config={"seed": 42},
    )


def opened(folder: Path, mode: str = "offline") -> TrackedRun:
    run = start_run(folder, identity(), mode=mode)
    assert run is not None
    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """Server that this process logs in to."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    with wandb_server() as running:
        yield running
        import wandb

        wandb.teardown()  # the service that knows this server


def settings_for(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def test_offline_run_contains_identity_and_values(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.log({"train/loss": 1.5}, 7)
    run.summarise({"score/pixcorr": 0.25})
    image = np.zeros((4, 4, 3), np.uint8)
    run.log_images("reconstructions", [image], ["stimulus 3: seen"])
    run.log_table("pairs", ("stimulus", "seen"), [[3, image]])
    run.finish(ok=True)
    assert run.finished
    record = finished_record(run.folder)
    assert (record.run.run_id, record.run.display_name) == ("abc123", "finetune subj01-1h")
    assert (record.run.run_group, record.run.job_type) == ("finetune_subj01_1h", "finetune")
    assert set(record.run.tags) == {"subj01", "simulated"}
    assert record.config["seed"] == 42
    assert record.history[0]["train/loss"] == 1.5
    assert record.history[0]["trainer/global_step"] == 7
    assert record.summary["score/pixcorr"] == 0.25
    assert record.logged("reconstructions")["captions"] == ["stimulus 3: seen"]
    assert record.table("pairs")[0]["stimulus"] == 3
    step, everything = record.of_kind("metric")
    assert (step.name, everything.glob_name, everything.step_metric) == (
        "trainer/global_step",
        "*",
        "trainer/global_step",
    )
    assert record.of_kind("exit")[0].exit_code == 0


def test_failed_run_is_marked_as_failed(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.finish(ok=False)
    assert finished_record(run.folder).of_kind("exit")[0].exit_code == 1


def test_inputs_and_outputs_of_an_offline_run(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "model.bin").write_bytes(bytes(2_000_000))
    run = opened(tmp_path)
    run.log_output(TrackedFolder("finetune-x", "checkpoint", "f" * 64, folder, {"inputs": {"data": "d"}}), **HOW)
    run.log_input(TrackedFolder("nsd", "data", "d" * 64), **HOW)
    run.finish(ok=True)
    record = finished_record(run.folder)
    (made,), (used,) = record.outputs(), record.inputs()
    assert (made.name, made.type) == ("finetune-x", "checkpoint")
    assert "f" * 12 in made.aliases
    files = {entry.path: entry for entry in made.manifest.contents}
    assert not files["manifest.json"].ref
    assert files["model.bin"].ref == (folder / "model.bin").resolve().as_uri()
    assert (used.name, used.type) == ("nsd", "data")
    assert used.manifest.contents[0].ref == f"fingerprint://{'d' * 64}"


def test_two_open_runs(tmp_path: Path) -> None:
    outer = opened(tmp_path)
    inner = start_run(tmp_path, identity("def456"), mode="offline")
    assert inner is not None
    inner.log({"train/loss": 1.0}, 1)
    inner.finish(ok=True)
    outer.log({"train/loss": 2.0}, 2)
    outer.finish(ok=True)
    assert [row["train/loss"] for row in finished_record(inner.folder).history] == [1.0]
    assert [row["train/loss"] for row in finished_record(outer.folder).history] == [2.0]


def test_online_run_is_resumed(tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_for(server, monkeypatch)
    for steps in ((10, 20), (30, 40)):
        run = opened(tmp_path, "online")
        assert not run.offline
        for step in steps:
            run.log({"train/loss": 1 / step}, step)
        run.finish(ok=True)
    rows = server.history["abc123"]
    assert [row["trainer/global_step"] for row in rows] == [10, 20, 30, 40]
    assert [row["_step"] for row in rows] == [0, 1, 2, 3]
    assert server.runs["abc123"]["groupName"] == "finetune_subj01_1h"


def test_unreachable_server_leaves_the_run_offline(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings_for(server, monkeypatch)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # no server listens there
    monkeypatch.setattr(wandb_run, "_INIT_TIMEOUT_S", 1.0)
    with caplog.at_level(logging.WARNING):
        run = opened(tmp_path, "online")
    assert run.offline
    (warning,) = [entry.getMessage() for entry in caplog.records if entry.name == wandb_run.__name__]
    assert "is kept offline" in warning
    assert "\n" not in warning
    run.log({"train/loss": 1.0}, 1)
    run.finish(ok=True)
    assert finished_record(run.folder).history[0]["train/loss"] == 1.0


def test_unwritable_folder_returns_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert start_run(tmp_path / "file", identity(), mode="offline") is None
    assert "is not tracked" in caplog.text


def test_broken_run_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = opened(tmp_path)
    real = run._run

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(28, "No space left on device")

    run._run = Broken()
    with caplog.at_level(logging.WARNING):
        run.log({"train/loss": 1.0}, 1)
        run.log_table("pairs", ("a",), [[1]])
        run.finish(ok=True)
    assert caplog.text.count("is no longer tracked") == 1
    assert not run.finished
    real.finish()


def test_death_of_the_wandb_process_is_tolerated(tmp_path: Path) -> None:
    """Logging and finishing return although W&B's process is gone."""
    import wandb

    wandb.teardown()
    run = opened(tmp_path)
    run.log({"train/loss": 1.0}, 1)
    (core,) = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True).stdout.split()
    os.kill(int(core), signal.SIGKILL)
    for step in range(3):
        run.log({"train/loss": 1.0}, step)
    run.finish(ok=True)
    again = start_run(tmp_path, identity("def456"), mode="offline")
    assert again is not None
    again.finish(ok=True)
    assert again.finished


def test_sweep_agent_settings_apply_to_the_scored_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_run, "_agent", {})
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    for job_type in ("finetune", "evaluate"):
        run = start_run(tmp_path, replace(identity(f"own-{job_type}"), job_type=job_type), mode="offline")
        assert run is not None
        run.finish(ok=True)
    runs = [finished_record(folder).run for folder in sorted(tmp_path.glob("wandb/offline-run-*"))]
    assert {run.job_type: (run.run_id, run.sweep_id) for run in runs} == {
        "finetune": ("own-finetune", ""),
        "evaluate": ("agents", "sweep1"),
    }
