"""Two gloo processes on the CPU through the command line: the same artifacts, one voice, one end for all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
SHORT = ("+experiment=scratch", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")


def start(outputs: Path, *args: str, launcher: Sequence[str] = ("-m",), path: Path | None = None) -> subprocess.Popen:
    command = [sys.executable, *launcher, "mindeye_pl", *args, f"paths.outputs={outputs}"]
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]


def run(outputs: Path, *args: str, **options: object) -> tuple[int, str, str]:
    process = start(outputs, *args, **options)  # type: ignore[arg-type]
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def artifacts(outputs: Path) -> set[str]:
    """Every file of a finished artifact, without the fingerprint in its folder's name."""
    names = (str(p.relative_to(outputs)) for p in (outputs / "artifacts").rglob("*") if p.is_file())
    return {re.sub(r"-[0-9a-f]{12}/", "/", name) for name in names if "/." not in name}


def weights(outputs: Path, step: str = "finetune") -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / step).glob("subj*/model.safetensors")
    return load_file(path)


def reconstructions(outputs: Path) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions.safetensors")
    return load_file(path)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(reached, seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, "too late"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_two_ranks_make_the_same_artifacts_and_speak_once(finished_outputs: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    code, out, err = run(outputs, *COMMAND, *TWO)
    assert (code, err) == (0, "")
    for step in ("pretrain:", "finetune:", "reconstruct:"):
        assert len([line for line in out.splitlines() if line.startswith(step)]) in (1, 2), out
    for line in ("finetune: done", "reconstruct: done", "epoch 1 of 2", "simulating NSD"):
        assert out.count(line) == (2 if line.startswith("epoch") else 1), line
    assert "rank" not in out.lower().replace(str(outputs).lower(), "")
    assert artifacts(outputs) == artifacts(finished_outputs)
    (history,) = (outputs / "artifacts" / "finetune").glob("*/history.json")
    assert [record["epoch"] for record in json.loads(history.read_text())] == [0, 1]
    (manifest,) = (outputs / "artifacts" / "finetune").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["determined_by"]["ranks"] == 2
    one = weights(finished_outputs)
    assert {name: value.shape for name, value in weights(outputs).items()} == {n: v.shape for n, v in one.items()}
    code, out, err = run(outputs, *COMMAND, *TWO)
    assert (code, err) == (0, "")
    assert "finetune: cached" in out
    assert "reconstruct: cached" in out


@pytest.mark.slow
def test_two_ranks_draw_the_images_that_one_draws(finished_outputs: Path, tmp_path: Path) -> None:
    (checkpoint,) = (finished_outputs / "artifacts" / "finetune").glob("*/model.safetensors")
    more = (f"evaluate.checkpoint={checkpoint}", "pipeline.steps=[reconstruct]")
    wanted = reconstructions(finished_outputs)

    def assert_two_ranks_draw_them() -> None:
        code, _, err = run(tmp_path, *COMMAND, *TWO, *more)
        assert (code, err) == (0, "")
        found = reconstructions(tmp_path)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)

    assert_two_ranks_draw_them()
    (folder,) = (tmp_path / "artifacts" / "reconstruct").glob("subj*")
    assert not list(folder.glob("image-*")), "the shards are merged"
    # All but one image as a killed run leaves them: one rank has nothing to do.
    work = folder.with_name(f".{folder.name[-12:]}.work")
    work.mkdir()
    for index, id_ in enumerate(wanted["stimulus_ids"].tolist()[:-1]):
        rows = {name: value[index].clone() for name, value in wanted.items()}
        save_file(rows, work / f"image-{id_:06d}.safetensors")
    shutil.rmtree(folder)
    assert_two_ranks_draw_them()


@pytest.mark.slow
def test_a_sweep_trains_each_job_on_two_ranks_and_torchrun_gives_the_same(tmp_path: Path) -> None:
    code, out, err = run(tmp_path / "sweep", "-m", "seed=1,2", *SHORT, *TWO)
    assert (code, err) == (0, "")
    assert out.count("finetune: done") == 2
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m")
    code, out, _ = run(tmp_path / "torchrun", *SHORT, "seed=2", *TWO, launcher=torchrun)
    assert code == 0
    assert out.count("finetune: done") == 1
    assert len(list((tmp_path / "torchrun" / "runs").rglob("*.log"))) == 1, "rank 1 leaves no folder of a run"
    (path,) = (tmp_path / "sweep" / "artifacts" / "finetune").glob("*seed2*/model.safetensors")
    swept, launched = load_file(path), weights(tmp_path / "torchrun")
    assert all(torch.equal(swept[name], value) for name, value in launched.items())


@pytest.mark.slow
def test_a_killed_rank_0_leaves_no_rank_behind_and_the_command_goes_on(tmp_path: Path) -> None:
    more = ("finetune.epochs=4", *TWO)
    code, _, err = run(tmp_path / "left_alone", *SHORT, *more)
    assert (code, err) == (0, "")
    process = start(tmp_path / "killed", *SHORT, *more)

    def first_epoch_is_done() -> bool:
        assert process.poll() is None
        return any((tmp_path / "killed" / "artifacts" / "finetune").glob(".*.work/last.ckpt"))

    wait_for(first_epoch_is_done)
    others = children(process.pid)
    assert others
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, others)), seconds=10)
    code, _, err = run(tmp_path / "killed", *SHORT, *more)
    assert (code, err) == (0, "")
    undisturbed = weights(tmp_path / "left_alone")
    assert all(torch.equal(undisturbed[name], value) for name, value in weights(tmp_path / "killed").items())


STUMBLES = """
import os
if "MINDEYE_PL_LEADER" in os.environ:
    from mindeye_pl.errors import UserError
    from mindeye_pl.models.base import BrainDecoder
    def on_train_epoch_start(self):
        raise {error}
    BrainDecoder.on_train_epoch_start = on_train_epoch_start
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", ["UserError('the disk of rank 1 is gone', seen=0)", "ValueError('a mistake')"])
def test_the_error_of_one_rank_is_the_error_of_the_run(error: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STUMBLES.format(error=error))
    code, _, err = run(tmp_path / "outputs", *SHORT, *TWO, path=tmp_path)
    if error.startswith("User"):
        assert code == 2
        assert err == "mindeye_pl: the disk of rank 1 is gone (got: 0)\n"
    else:
        assert code == 1
        assert "a mistake" in err
        assert "Connection" not in err, "what rank 0 met afterwards is not what went wrong"


@pytest.mark.slow
def test_an_error_that_both_ranks_meet_is_said_once(tmp_path: Path) -> None:
    code, _, err = run(tmp_path, *SHORT, *TWO, "scale.max_lr=1.0e+30", "finetune.epochs=3")
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert "not finite" in err
