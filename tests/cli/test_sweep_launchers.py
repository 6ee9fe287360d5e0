"""The same sweep by every launcher, at once or killed again and again, ends in the same table."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SWEEP = (
    "-m",
    "+experiment=sweeps/hours_subj01",
    "scale=tiny",
    "scale.sweep.hours='0.5,1'",
    "scale.sweep.seeds='1,2'",
    "logger=none",
    "report.export=false",
)
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
}


def command(outputs: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "mindeye_pl", *SWEEP, *more, f"paths.outputs={outputs}"]


def environment() -> dict[str, str]:
    """One thread for each process, so that no sum depends on how many there are."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}


def run(outputs: Path, *more: str) -> str:
    """The words of a sweep that ends well."""
    outputs.mkdir(exist_ok=True)
    done = subprocess.run(
        command(outputs, *more), capture_output=True, text=True, cwd=outputs, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def table_of(out: str) -> str:
    return out[out.index("Sweep (simulated)") :].split("report:")[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return table_of(run(tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_the_same_table(launcher: str, undisturbed: str, tmp_path: Path) -> None:
    assert table_of(run(tmp_path / "outputs", *LAUNCHERS[launcher])) == undisturbed
    artifacts = tmp_path / "outputs" / "artifacts"
    assert len(list((artifacts / "pretrain").glob("subj*"))) == 2
    assert len(list((artifacts / "finetune").glob("subj*"))) == 8


def test_two_sweeps_at_once_share_what_they_make(undisturbed: str, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            command(tmp_path / "outputs"), stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
        )
        for _ in range(2)
    ]
    words = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(out.count("\npretraining on ") for out in words) == 2, "one for each seed, whoever made it"
    assert [table_of(out) for out in words] == [undisturbed] * 2


def test_killed_ten_times_it_ends_in_the_same_table(undisturbed: str, tmp_path: Path) -> None:
    """With two workers, the whole group of processes is killed at random moments, each time a little further on."""
    rng, outputs = random.Random(0), tmp_path / "outputs"
    outputs.mkdir()
    for _ in range(10):
        process = subprocess.Popen(
            command(outputs, *LAUNCHERS["joblib"]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=outputs,
            env=environment(),
            start_new_session=True,
        )
        time.sleep(rng.uniform(8, 16))
        assert process.poll() is None, "it ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert table_of(run(outputs)) == undisturbed
