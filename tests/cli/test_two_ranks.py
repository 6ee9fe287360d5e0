"""Two gloo ranks on the CPU through the command line: the same artifacts, printed once, and ended together."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.forked import last_of_each_key

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")
TWO = ("trainer=ddp_cpu",)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
SHORT = ("+experiment=scratch", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")


def start(
    outputs: Path,
    *args: str,
    launcher: Sequence[str] = ("-m",),
    path: Path | None = None,
    variables: dict[str, str] | None = None,
) -> subprocess.Popen:
    command = [sys.executable, *launcher, "mindeye_pl", *last_of_each_key(*args), f"paths.outputs={outputs}"]
    environment = os.environ | (variables or {})
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]


def run(outputs: Path, *args: str, **options: object) -> tuple[int, str, str]:
    process = start(outputs, *args, **options)  # type: ignore[arg-type]
    out, err = process.communicate(timeout=1200)
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


@pytest.fixture
def world(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny world, simulated before."""
    monkeypatch.setenv("MINDEYE_ARTIFACTS", str(laboratory))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(reached, seconds: float = 600) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, "too late"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_two_ranks_build_the_same_artifacts_and_print_once(finished_outputs: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    code, out, err = run(outputs, *COMMAND, *TWO)
    assert (code, err) == (0, "")
    for step in ("pretrain:", "finetune:", "reconstruct:"):
        assert len([line for line in out.splitlines() if line.startswith(step)]) in (1, 2), out
    for line in ("finetune: done", "reconstruct: done", "epoch 1 of 2", "simulating NSD"):
        assert out.count(line) == (2 if line.startswith("epoch") else 1), line
    assert not re.search(r"\branks? [\d:=]", out.lower().replace(str(outputs).lower(), ""))
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
    assert not list(folder.glob("reconstructions-*")), "the shards are merged"
    # All but one image as a killed run leaves them: one rank has nothing to do.
    work = folder.with_name(f".{folder.name[-12:]}.work")
    work.mkdir()
    for index, id_ in enumerate(wanted["stimulus_ids"].tolist()[:-1]):
        rows = {name: value[index].clone() for name, value in wanted.items()}
        save_file(rows, work / f"reconstructions-{id_:06d}.safetensors")
    shutil.rmtree(folder)
    assert_two_ranks_draw_them()


def finetuned(outputs: Path, seed: int) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / "finetune").glob(f"*seed{seed}-*/model.safetensors")
    return load_file(path)


def assert_equal(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == others.keys()
    assert all(torch.equal(others[name], value) for name, value in weights.items())


def jobs(outputs: Path) -> dict[int, tuple[str, str | None]]:
    """Status and error of each job of the only sweep."""
    found = [json.loads(path.read_text()) for path in (outputs / "sweeps").rglob("job.json")]
    return {job["number"]: (job["status"], job["error"]) for job in found}


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_a_sweep_torchrun_and_srun_train_the_same_weights(tmp_path: Path) -> None:
    code, out, err = run(tmp_path / "sweep", "-m", "seed=1,2", *SHORT, *TWO)
    assert (code, err) == (0, "")
    assert out.count("finetune: done") == 2
    assert jobs(tmp_path / "sweep") == {0: ("finished", None), 1: ("finished", None)}
    code, out, _ = run(tmp_path / "torchrun", "-m", "seed=2,1", *SHORT, *TWO, launcher=TORCHRUN)
    assert code == 0
    assert out.count("finetune: done") == 2
    logs = list((tmp_path / "torchrun" / "sweeps").rglob("*.log"))
    assert len(logs) == 2, "rank 1 writes no folder"
    for seed in (1, 2):
        assert_equal(finetuned(tmp_path / "sweep", seed), finetuned(tmp_path / "torchrun", seed))
    code, out, err = srun(tmp_path / "srun", "seed=2", *SHORT, *TWO)
    assert (code, err) == (0, "")
    assert out.count("finetune: done") == 1
    assert len(list((tmp_path / "srun" / "runs").rglob("*.log"))) == 1
    assert_equal(finetuned(tmp_path / "sweep", 2), finetuned(tmp_path / "srun", 2))


def srun(outputs: Path, *args: str) -> tuple[int, str, str]:
    """Two tasks with the environment that srun gives them: the highest exit code, and the output of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "1", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train"}
    shared |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    tasks = [
        start(outputs, *args, variables=shared | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in ("0", "1")
    ]
    ends = [task.communicate(timeout=1200) for task in tasks]
    return max(task.returncode for task in tasks), "".join(out for out, _ in ends), "".join(err for _, err in ends)


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_a_sweep_goes_on_after_a_failed_job(tmp_path: Path) -> None:
    failing = ("-m", "trainer=ddp_cpu", "scale.max_lr=1.0e+30,3.0e-4", "finetune.epochs=3", *SHORT)
    for outputs, launcher, wanted in ((tmp_path / "python", ("-m",), 2), (tmp_path / "torchrun", TORCHRUN, 1)):
        code, out, err = run(outputs, *failing, launcher=launcher)
        assert code == wanted
        assert err.count("mindeye_pl: 1 of 2 jobs have not finished") == 1
        (status, error), second = jobs(outputs)[0], jobs(outputs)[1]
        assert status == "failed"
        assert error is not None
        assert "not finite" in error
        assert second == ("finished", None)
        assert out.count("job 0 failed") == 1


def first_epoch_is_done(process: subprocess.Popen, outputs: Path) -> bool:
    assert process.poll() is None
    return any((outputs / "artifacts" / "finetune").glob(".*.work/last.ckpt"))


def training_ranks(launcher: int) -> list[int]:
    """Ranks 0 and 1 below a launcher, by their working threads: helpers of `multiprocessing` have one."""
    return [child for child in children(launcher) if len(list(Path(f"/proc/{child}/task").iterdir())) > 2]


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_a_killed_process_ends_all_ranks_and_the_command_resumes(tmp_path: Path) -> None:
    more = ("finetune.epochs=6", *TWO)
    code, _, err = run(tmp_path / "undisturbed", *SHORT, *more)
    assert (code, err) == (0, "")
    outputs = tmp_path / "killed"

    process = start(outputs, *SHORT, *more)  # one of its ranks is killed
    wait_for(lambda: first_epoch_is_done(process, outputs))
    ranks = training_ranks(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1, err
    assert "SIGKILL" in err
    assert not any(map(alive, ranks))

    process = start(outputs, *SHORT, *more)  # it is killed itself
    wait_for(lambda: len(training_ranks(process.pid)) == 2)
    ranks = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, ranks)), seconds=60)

    code, _, err = run(outputs, *SHORT, *more)
    assert (code, err) == (0, "")
    assert_equal(weights(tmp_path / "undisturbed"), weights(outputs))


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_ctrl_c_and_signals_end_all_ranks(tmp_path: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)):
        outputs = tmp_path / number.name
        process = start(outputs, *SHORT, "finetune.epochs=500", *TWO)
        try:
            wait_for(lambda process=process, outputs=outputs: first_epoch_is_done(process, outputs))
            ranks = children(process.pid)
            process.send_signal(number)
            _, err = process.communicate(timeout=180)
        finally:
            process.kill()  # where it has not ended
        assert process.returncode == code, err
        wait_for(lambda ranks=ranks: not any(map(alive, ranks)), seconds=60)  # helpers of multiprocessing end last
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1, err
        assert "the same command resumes" in err


@pytest.mark.slow
def test_ctrl_c_while_the_ranks_import(tmp_path: Path) -> None:
    process = start(tmp_path, *SHORT, *TWO)
    try:
        wait_for(lambda: len(children(process.pid)) >= 3)  # the ranks, and multiprocessing's helper
        time.sleep(1)  # they have been sent what they shall do, and import for some seconds
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "stopped by SIGINT; the same command resumes\n")


#: A mistake that one of the ranks meets at the start of training.
STUMBLES = """
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
def on_train_epoch_start(self):
    if self.trainer.global_rank == {rank}:
        raise {error}
BrainDecoder.on_train_epoch_start = on_train_epoch_start
"""


@pytest.mark.slow
@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("launcher", [("-m",), TORCHRUN], ids=["python", "torchrun"])
@pytest.mark.parametrize(
    ("rank", "error"),
    [
        (0, "UserError('the disk is gone', got=0)"),
        (1, "UserError('the disk is gone', got=0)"),
        (1, "ValueError('bad')"),
    ],
)
def test_the_error_of_one_rank_is_reported_once(
    rank: int, error: str, launcher: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STUMBLES.format(rank=rank, error=error))
    code, _, err = run(tmp_path / "outputs", *SHORT, *TWO, path=tmp_path, launcher=launcher)
    if error.startswith("User"):
        line = "mindeye_pl: the disk is gone (got: 0)"
        assert err.splitlines().count(line) == 1, err
        if launcher == ("-m",):  # torchrun adds a report of its own and exits with 1
            assert (code, err) == (2, f"{line}\n")
    else:
        assert code == 1
        assert err.count("ValueError: bad") == 1, err
    assert "Connection" not in err, "an error that follows from the first one is not reported"


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_user_mistakes_are_one_line(tmp_path: Path) -> None:
    finite = (*TWO, "scale.max_lr=1.0e+30", "finetune.epochs=3")  # an error of both ranks
    missing = (*TWO, "unclip.folder=/nowhere", "pipeline.steps=[finetune,reconstruct]")
    for number, (args, says) in enumerate(
        {finite: "not finite", missing: "/nowhere", (*TWO, "data.subject=77"): "data.subject"}.items()
    ):
        code, _, err = run(tmp_path / str(number), *SHORT, *args)
        assert code == 2
        assert len(err.splitlines()) == 1, err
        assert says in err
    code, _, err = srun(tmp_path / "srun", *SHORT, *TWO, "data.subject=77")
    assert code == 2
    assert [line for line in err.splitlines() if "data.subject" in line] == err.splitlines()
    code, _, err = run(tmp_path / "torchrun", *SHORT, "trainer.devices=3", launcher=TORCHRUN)
    assert code == 1
    assert err.count("mindeye_pl: the number of started ranks") == 1
