"""A store that may not be written or read, and two commands at once, in processes of their own."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")

#: Of Linux: what lets the superuser write and read everything, and the call that gives it up.
_OVERRIDE = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
_PR_CAPBSET_DROP = 24


def as_a_plain_user() -> None:
    """Lets permissions hold for this process, also where the tests are run by the superuser."""
    if os.geteuid() == 0:
        for capability in _OVERRIDE:
            if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError("cannot give up a capability")


def command(outputs: Path, *more: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "mindeye_pl", *COMMAND, f"paths.outputs={outputs}", *more]
    return subprocess.run(line, preexec_fn=as_a_plain_user, capture_output=True, text=True, check=False)


def refusal(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture
def read_only(finished: Path, tmp_path: Path) -> Path:
    """The artifacts of a finished run, in a laboratory's folder that nobody may write to."""
    lab = tmp_path / "lab"
    (finished / "artifacts").rename(lab)
    folders = [lab, *(path for path in lab.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    probe = [sys.executable, "-c", f"open({str(lab / 'probe')!r}, 'w')"]
    try:
        written = subprocess.run(probe, preexec_fn=as_a_plain_user, capture_output=True, check=False).returncode == 0
    except subprocess.SubprocessError:
        written = True
    if written:
        pytest.skip("permissions do not hold for whoever runs the tests")
    return lab


def test_a_read_only_store(finished: Path, read_only: Path) -> None:
    here = (f"paths.artifacts={read_only}",)
    result = command(finished, *here)
    assert result.returncode == 0, result.stderr
    assert "finetune: cached" in result.stdout
    line = refusal(command(finished, *here, "pipeline.steps=[finetune]", "finetune.epochs=1"))
    assert f"{read_only}/finetune/" in line
    assert "may not be written" in line
    assert "Fix: paths.artifacts=FOLDER, and paths.shared_artifacts=" in line
    # What it names as the mend is one: the pretraining comes from there, the fine-tuning is made here.
    more = (f"paths.shared_artifacts={read_only}", "pipeline.steps=[pretrain,finetune]", "finetune.epochs=1")
    result = command(finished, *more)
    assert result.returncode == 0, result.stderr
    assert f"pretrain: cached, {read_only}" in result.stdout
    assert f"finetune: done, {finished}/artifacts/finetune/" in result.stdout


def test_an_artifact_that_may_not_be_read(finished: Path, read_only: Path) -> None:
    (folder,) = (read_only / "pretrain").glob("[!.]*")
    folder.chmod(0o000)
    here = (f"paths.artifacts={read_only}",)
    line = refusal(command(finished, *here, "pipeline.steps=[pretrain]"))
    assert f"{folder} may not be read" in line
    assert "rm -r" not in line, "it is not damaged"
    result = command(finished, *here, "pipeline=artifacts", "artifacts.action=prune", "artifacts.dry_run=false")
    assert result.returncode == 0, result.stderr
    assert "nothing to remove" in result.stdout
    folder.chmod(0o755)


def test_two_commands_at_once_make_one_world(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mindeye_pl", "scale=tiny", "pipeline=simulate", f"paths.outputs={tmp_path}"]
    runs = [f"hydra.run.dir={tmp_path / name}" for name in ("first", "second")]
    processes = [
        subprocess.Popen([*line, run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for run in runs
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted("simulate: tiny-seed0" in out for out, _ in said) == [False, True]
    (folder,) = (tmp_path / "artifacts" / "simulate").glob("[!.]*")
    assert all(f"simulate: done, {folder}" in out or f"simulate: cached, {folder}" in out for out, _ in said)
