"""Ranks: the processes of one job that execute the same steps on several devices.

Rank 0 is the main process. It alone prints, logs and writes artifacts. The ranks meet in a few collectives, all of them
on a gloo group of their own that never times out: rank 0 may build something for hours while the others wait. Inside
`on_main_process` and `main_process_first` a rank works alone, and the collectives return at once.
"""

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

from mindeye_pl.errors import UserError

#: Environment variable with the process that joined the ranks; the processes that it starts inherit it.
_JOINED_BY = "MINDEYE_PL_JOINED_BY"

_START_TIMEOUT, _NO_TIMEOUT, _IN_STEP_TIMEOUT = timedelta(minutes=10), timedelta(days=365), timedelta(seconds=30)

#: How long a failed collective waits for the launcher, or for the error of the rank that broke it.
_PEER_ERROR_S = 5.0

_rank, _world_size = 0, 1
_group: Any = None  # ProcessGroup of the collectives; None in a single process and where a rank works alone
_store: Store | None = None  # None in a single process
_out_of_step = False
_threads = 1


class MainProcessError(RuntimeError):
    """An error that the main process raised and reports, raised in the other ranks."""


def rank() -> int:
    """Return this process's rank, 0 where it is the only one."""
    return _rank


def world_size() -> int:
    """Return the number of ranks."""
    return _world_size


def is_main_process() -> bool:
    """Return whether this is rank 0."""
    return _rank == 0


def agree(value: Any = None) -> Any:
    """Return the main process's value, picklable, in every rank.

    Raises:
        UserError: after a job that failed in some ranks and not in all.
    """
    if _group is None:
        return value
    if _out_of_step:
        raise UserError("an earlier job failed in some ranks and not in all", fix="the same command again")
    shared = [value]
    dist.broadcast_object_list(shared, src=0, group=_group)
    return shared[0]


def wait_for_all() -> None:
    """Wait until every rank is here."""
    if _group is not None:
        dist.barrier(group=_group)


def on_main_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the main process while the others wait; return its picklable result in every rank.

    Raises:
        MainProcessError: in the other ranks, if the function raises.
    """
    if _group is None:
        return function(*args)
    result = None
    if is_main_process():
        with _sharing_failure(), _working_alone():
            result = function(*args)
    return _agree_on_success(result)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, which fills the caches on disk, and then in the others.

    Raises:
        MainProcessError: in the other ranks, if the main process raises.
    """
    if is_main_process():
        with _sharing_failure(), _working_alone():
            yield
        _agree_on_success()
    else:
        _agree_on_success()
        with _working_alone():
            yield


def _agree_on_success(result: Any = None) -> Any:
    result, failure = agree((result, None))
    if failure is not None:
        raise MainProcessError(failure)
    return result


@contextmanager
def _sharing_failure() -> Iterator[None]:
    """Raise an error in the ranks that wait in `_agree_on_success` too."""
    try:
        yield
    except Exception as error:
        agree((None, f"{type(error).__name__}: {error}"))
        raise


@contextmanager
def _working_alone() -> Iterator[None]:
    """Make the collectives local, and use the threads that Lightning divides among the ranks of a training."""
    global _group
    before, threads = _group, torch.get_num_threads()
    if before is not None and is_main_process():
        torch.set_num_threads(_threads)
    _group = None
    try:
        yield
    finally:
        _group = before
        torch.set_num_threads(threads)


@contextmanager
def joined() -> Iterator[None]:
    """Join the ranks that torchrun, srun or `launch` started, and initialise the process group that Lightning uses.

    Raises:
        UserError: if not all ranks start, or in a process that another launcher started below a rank.
    """
    global _rank, _world_size, _group, _store, _threads
    if os.environ.setdefault(_JOINED_BY, str(os.getpid())) != str(os.getpid()):
        what = "jobs that run at the same time cannot share the ranks of torchrun or srun"
        raise UserError(what, got="another launcher", fix="hydra/launcher=basic, or without torchrun and srun")
    _threads = torch.get_num_threads()
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if by_torchrun:
        _prctl_pr_set_pdeathsig(signal.SIGKILL)  # Linux ends this process with the launcher, even if that is killed
    has_cuda = torch.cuda.is_available()
    try:
        environment = TorchElasticEnvironment() if by_torchrun else SLURMEnvironment()
        _rank, _world_size = environment.global_rank(), environment.world_size()
        rank_zero_only.rank = _rank  # type: ignore[attr-defined]
        if _rank > 0:
            _silence()
        if has_cuda:
            torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
        url = f"tcp://{environment.main_address}:{environment.main_port}"
        _store, _, _ = next(rendezvous(url, _rank, _world_size, timeout=_START_TIMEOUT))
        training, backend = PrefixStore("training", _store), "cpu:gloo,cuda:nccl" if has_cuda else "gloo"
        dist.init_process_group(backend, store=training, rank=_rank, world_size=_world_size)
        _group = dist.new_group(backend="gloo", timeout=_NO_TIMEOUT)
    except RuntimeError as error:
        fix = "start every rank, on every machine; with Slurm, #SBATCH --ntasks-per-node=DEVICES"
        raise UserError(f"not all ranks have started: {error}", fix=fix) from error
    try:
        yield
        wait_for_all()  # rank 0 may serve the store
    finally:  # also after an error: what rank 0 does then, it does alone
        _group = None
    dist.destroy_process_group()
    _rank, _world_size, _store = 0, 1, None
    del os.environ[_JOINED_BY]


def _silence() -> None:
    """Leave all output to the main process."""
    logging.disable()
    warnings.simplefilter("ignore")
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # to the end of the process


def check_in_step() -> None:
    """Check that every rank has failed in the same job, so that the next one can begin.

    Raises:
        UserError: if some have not, and may wait in a collective of the training.
    """
    global _out_of_step
    try:
        dist.monitored_barrier(group=_group, timeout=_IN_STEP_TIMEOUT)
    except RuntimeError as error:
        _out_of_step = True
        raise UserError("a job failed in some ranks and not in all", fix="the same command again") from error


def let_peers_fail_first(error: BaseException) -> None:
    """Wait before a failed collective is reported: a rank that died has broken it, and its launcher ends this one."""
    if _store is not None and isinstance(error, RuntimeError):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler would let the process live
        time.sleep(_PEER_ERROR_S)


def reports_failure(error: BaseException) -> bool:
    """Return whether this rank reports its error: the first rank that fails does."""
    if _store is None:
        return True
    let_peers_fail_first(error)
    if isinstance(error, MainProcessError):
        return False
    try:
        return _store.add("failures", 1) == 1
    except RuntimeError:  # rank 0 served the store and is gone, with its error
        return is_main_process()
