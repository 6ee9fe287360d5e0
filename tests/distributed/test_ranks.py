"""Collectives of two real ranks: values and errors of the main process reach both, and work alone needs no peer."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mindeye_pl.distributed import launcher
from mindeye_pl.distributed.launched import launched_ranks
from mindeye_pl.distributed.launcher import launch
from mindeye_pl.distributed.ranks import (
    MainProcessError,
    agree,
    is_main_process,
    joined,
    main_process_first,
    on_main_process,
    rank,
    wait_for_all,
    world_size,
)
from mindeye_pl.errors import UserError


def test_one_process_needs_no_group() -> None:
    assert (rank(), world_size(), is_main_process()) == (0, 1, True)
    assert agree("value") == "value"
    assert on_main_process(len, "four") == 4
    wait_for_all()
    with main_process_first():
        pass


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (3, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, None),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"},
            (1, 2),
        ),
    ],
)
def test_ranks_of_torchrun_and_srun_are_detected(
    environment: dict[str, str], expected: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_ranks() == expected


def _fail(message: str) -> None:
    raise UserError(message)


def _fail_in_rank(number: int, error: Exception) -> None:
    with joined():
        if rank() == number:
            raise error
        agree()
        wait_for_all()


def _collectives(folder: Path) -> dict[str, Any]:
    """Every collective once, nested ones inside work alone among them."""
    with joined():
        found: dict[str, Any] = {"agreed": agree(f"of rank {rank()}")}
        found["called"] = on_main_process(lambda: (rank(), agree("alone"), on_main_process(os.getpid)))
        try:
            on_main_process(_fail, "no such file")
        except (UserError, MainProcessError) as error:
            found["error"] = type(error).__name__, str(error)
        with main_process_first():
            on_main_process(agree)  # no peer is needed
            with main_process_first():
                before = sorted(path.name for path in folder.iterdir())
                (folder / f"rank{rank()}").touch()
        # Rank 0 has the first turn, and its failure is the others' too.
        try:
            with main_process_first():
                _fail("first")
        except (UserError, MainProcessError) as error:
            found["first"] = str(error)
        wait_for_all()
        if is_main_process():
            found["before"] = agree(before)
            return found
        found["before of 0"] = agree()
        (folder / "of rank 1.txt").write_text(repr(found | {"before": before}))
        return found


@pytest.fixture
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that start with this process's imports."""
    monkeypatch.setattr(launcher, "LaunchConfig", partial(launcher.LaunchConfig, start_method="fork"))


@pytest.mark.usefixtures("_forks")
def test_two_ranks_agree(tmp_path: Path) -> None:
    found = launch(_collectives, tmp_path, num_processes=2)
    other = eval((tmp_path / "of rank 1.txt").read_text())
    assert found["agreed"] == other["agreed"] == "of rank 0"
    assert found["called"] == other["called"]
    assert found["called"][:2] == (0, "alone")
    assert found["error"] == ("UserError", "no such file")
    assert other["error"] == ("MainProcessError", "UserError: no such file")
    assert found["first"] == "first"
    assert other["first"] == "UserError: first"
    assert found["before"] == other["before of 0"] == []
    assert other["before"] == ["rank0"], "rank 1 comes after rank 0"


@pytest.mark.slow
def test_the_error_of_the_rank_that_failed_is_raised() -> None:
    with pytest.raises(UserError, match=r"^the disk is full \(got: 0\)$"):
        launch(_fail_in_rank, 1, UserError("the disk is full", got=0), num_processes=2)
    with pytest.raises(RuntimeError, match=r"rank 0 failed:\n(.|\n)*ValueError: a mistake"):
        launch(_fail_in_rank, 0, ValueError("a mistake"), num_processes=2)
