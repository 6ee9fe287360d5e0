"""Several processes of one run: rank 0 leads, the others join it where many devices work on one thing.

Rank 0 carries out the run as a single process would: it decides what is made, holds the locks, writes, prints and logs.
The other ranks wait for its word. A word names the step that rank 0 has come to, its configuration and its work
folder; they build the step as far as the training or the prediction goes, and wait again. So nothing is decided twice,
and ranks that torchrun or srun started behave as those do that rank 0 starts itself.
"""

import atexit
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from mindeye_pl.distributed.processes import LEADER, RankProcesses, end_with_leader
from mindeye_pl.distributed.strategies import num_ranks
from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from mindeye_pl.engine.step import Run, Step

#: In the environment of what rank 0 starts: the process that torchrun or srun made rank 0.
_RANK_0 = "MINDEYE_PL_RANK_0"
_TO_COME_S = 600.0


class JoinedError(BaseException):
    """Ends a step in a rank that only joined it; no `except Exception` on the way takes it for a failure."""


@dataclass
class Ranks:
    """This process among the ranks.

    Attributes:
        rank: of this process.
        world_size: how many there are.
        store: what rank 0 says, and who has done it.
        processes: the other ranks, where this process started them.
        said: what rank 0 said with its last word.
        words: how many were said.
        lost: whether a training was left before its end, so that ranks from outside can no longer follow.
    """

    rank: int
    world_size: int
    store: Store
    processes: RankProcesses | None = None
    said: dict[str, Any] = field(default_factory=dict)
    words: int = 0
    lost: bool = False

    def say(self, word: dict[str, Any] | None) -> None:
        """Rank 0's next word; None is the last one."""
        self.store.set(f"word-{self.words}", json.dumps(word))
        self.words += 1

    def hear(self) -> dict[str, Any] | None:
        """Waits for the next word."""
        key = f"word-{self.words}"
        _wait(lambda: self.store.check([key]))
        self.words += 1
        return json.loads(self.store.get(key))

    def tell(self, what: str) -> None:
        """Says for this rank that it is here, or has done what the last word asked for."""
        self.store.set(f"{what}-{self.rank}", "")

    def await_others(self, what: str, timeout_s: float = float("inf")) -> None:
        """Waits until every other rank has told it.

        Raises:
            UserError: if one does not in time.
            RuntimeError: if one has failed.
        """
        keys = [f"{what}-{rank}" for rank in range(1, self.world_size)]

        def told() -> bool:
            if self.processes is not None and self.processes.failed():
                raise RuntimeError("a rank has failed")
            return self.store.check(keys)

        if not _wait(told, timeout_s):
            there = 1 + sum(self.store.check([key]) for key in keys)
            fix = "torchrun or srun in front of the command, on every machine"
            raise UserError("not all ranks have come", got=there, expected=self.world_size, fix=fix)


_here: Ranks | None = None


def follows() -> bool:
    """Whether this process only joins what rank 0 does."""
    return _here is not None and _here.rank > 0


def place() -> tuple[int, int]:
    """Rank and number of ranks, where they are there."""
    return (0, 1) if _here is None else (_here.rank, _here.world_size)


def started_here() -> bool:
    """Whether rank 0 starts the others itself, on this machine."""
    return LEADER in os.environ or _from_outside() is None


def ranks_from_outside() -> int | None:
    """Ranks that torchrun or srun started, None where it was neither."""
    found = _from_outside()
    return None if found is None else found[1]


def _from_outside() -> tuple[int, int] | None:
    """Rank and number of ranks as torchrun or srun say it."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        found = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    elif "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        found = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_NTASKS", 1))
    else:
        return None
    return found if found[1] > 1 else None


# rank 0


@contextmanager
def together(run: "Run", step: "Step", folder: Path, **said: Any) -> Iterator[dict[str, Any]]:
    """What all ranks do: they enter the block at one time, and only rank 0 comes out of it.

    Args:
        run: that rank 0 carries out.
        step: being made.
        folder: its work folder.
        said: plain data on which all must agree, as rank 0 sees it.

    Yields:
        What rank 0 said.
    """
    if follows():
        assert _here is not None
        yield _here.said
        raise JoinedError
    ranks = _lead(run.config)
    if ranks is None:
        yield said
        return
    config = OmegaConf.to_container(run.config, resolve=True)
    ranks.say({"step": step.name, "folder": str(folder), "said": said, "config": config, "overrides": run.overrides})
    threads, ranks.lost = torch.get_num_threads(), True
    yield said
    ranks.await_others(f"done-{ranks.words}")
    ranks.lost = False
    torch.set_num_threads(threads)  # Lightning shares them out between the ranks


def _lead(config: DictConfig) -> Ranks | None:
    """The ranks, started now if they are not there; None where this process does it alone."""
    global _here
    if _here is None and (world_size := num_ranks(config)) > 1:
        processes = RankProcesses(world_size)
        _here = Ranks(0, world_size, PrefixStore("mindeye_pl", processes.store), processes)
    if _here is not None:
        if _here.lost:
            raise UserError("the other ranks were lost with an earlier job", fix="the same command again")
        _here.await_others("here", _TO_COME_S)
    return _here


@contextmanager
def leading() -> Iterator[None]:
    """Around a job of rank 0: the ranks that it starts end with it, and the error of any is the error of the job."""
    try:
        yield
    except BaseException as error:
        words = _end(error)
        if words is None:
            raise
        code, errors = words
        if code == 2:
            raise UserError(errors.removeprefix("mindeye_pl: ")) from None
        raise RuntimeError(f"another rank failed with exit code {code}:\n{errors}") from None
    _end(None)


def _end(error: BaseException | None) -> tuple[int, str] | None:
    """Ends the ranks that were started here; returns the error of one that `error` came from."""
    global _here
    if _here is None:
        return None
    if (processes := _here.processes) is None:  # they go on to the next job, if they can
        if error is not None and _here.lost:
            _here.tell("failed")
        return None
    # A peer that has died makes the collective fail here too, a moment before its exit code is there.
    came_from = processes.failed(wait_s=5.0) if isinstance(error, RuntimeError) and _here.lost else None
    if error is None:
        _here.say(None)
    processes.close(at_once=error is not None)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    _here = None
    return came_from


# the other ranks


def take_part() -> bool:
    """Finds this process's place among ranks that were started before it; rank 0 comes back with False.

    The others follow to the end and come back with True.
    """
    if _here is None:
        _find_place()
    if not follows():
        return False
    assert _here is not None
    from mindeye_pl.runner.follow import follow

    follow(_here)
    return True


def _find_place() -> None:
    global _here
    if LEADER in os.environ:
        end_with_leader()
        rank, world_size = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    elif (found := _from_outside()) is not None:
        rank, world_size = found
        if os.environ.setdefault(_RANK_0, str(os.getpid())) != str(os.getpid()):
            raise UserError(
                "jobs that run at the same time cannot share the ranks of torchrun or srun",
                got="another launcher",
                fix="hydra/launcher=basic, or without torchrun and srun",
            )
    else:
        return
    _here = Ranks(rank, world_size, PrefixStore("mindeye_pl", _store(rank)))
    _here.tell("here")
    if rank == 0:
        atexit.register(_here.say, None)


def _store(rank: int) -> Store:
    """The store that all ranks know, at the address where Lightning's process group will be."""
    if "SLURM_PROCID" in os.environ and "MASTER_ADDR" not in os.environ:
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        environment = SLURMEnvironment()
        os.environ.update(MASTER_ADDR=environment.main_address, MASTER_PORT=str(environment.main_port))
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=_TO_COME_S)
    return TCPStore(address, port, is_master=serves, timeout=timeout, wait_for_workers=False, multi_tenant=True)


def _wait(reached: Callable[[], bool], timeout_s: float = float("inf")) -> bool:
    until = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True
