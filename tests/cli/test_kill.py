"""A run that is killed loses at most the current epoch and ends in the same weights, bit for bit."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.forked import Forked

COMMAND = (
    "+experiment=finetune_subj01_1h",
    "scale=tiny",
    "logger=none",
    "pretrain.epochs=4",
    "finetune.epochs=4",
    "pipeline.steps=[finetune]",
)


def start(outputs: Path) -> Forked:
    """The command in a process of its own."""
    return Forked(*COMMAND, f"paths.outputs={outputs}")


def weights(outputs: Path, step: str) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "artifacts" / step).glob("subj*/model.safetensors")
    return load_file(path)


def epochs_done(step: str, count: int) -> Callable[[Path], bool]:
    """True when the history of a step being made holds `count` epochs."""

    def reached(outputs: Path) -> bool:
        histories = list((outputs / "artifacts" / step).glob(".*.work/history.json"))
        try:
            return any(path.read_text().count('"epoch"') >= count for path in histories)
        except FileNotFoundError:
            return False  # renamed between the listing and the reading

    return reached


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "while simulating": lambda outputs: any((outputs / "artifacts" / "simulate").glob(".*.work/*.hdf5")),
    "while embedding": lambda outputs: any((outputs / "targets").glob("*/manifest.json")),
    "after the first epoch of pretraining": epochs_done("pretrain", 1),
    "after the third epoch of pretraining": epochs_done("pretrain", 3),
    "in fine-tuning": epochs_done("finetune", 2),
}


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(["in fine-tuning"], id="in training"),
        pytest.param(list(MOMENTS), id="everywhere", marks=pytest.mark.slow),
    ],
)
def test_killed_at_several_points(moments: list[str], finished_long: Path, tmp_path: Path) -> None:
    """One run, killed at each moment in turn and started again by the same command."""
    outputs = tmp_path / "outputs"
    for moment in moments:
        reached, process = MOMENTS[moment], start(outputs)
        while not reached(outputs):
            assert process.poll() is None, f"ended before it was killed {moment}: {process.communicate()[1]}"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(outputs)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for step in ("pretrain", "finetune"):
        left_alone, killed = weights(finished_long, step), weights(outputs, step)
        assert left_alone.keys() == killed.keys()
        for name, value in left_alone.items():
            assert torch.equal(value, killed[name]), f"{step}: {name} differs"


@pytest.fixture(scope="module")
def finished_long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the same command, left alone."""
    outputs = tmp_path_factory.mktemp("left_alone")
    process = start(outputs)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return outputs
