"""Launch of one process per device on this machine, by PyTorch's elastic launcher."""

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from uuid import uuid4

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mindeye_pl.errors import UserError

#: Signals that PyTorch's launcher takes over: it passes them on, gives the ranks half a minute, and ends.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Signals that ranks answer by a checkpoint and an end of their own.
_PASSED_ON = (signal.SIGUSR1,)


def launch(function: Callable[..., Any], *args: Any, num_processes: int) -> Any:
    """Call a function in several processes, which end together when one fails.

    Args:
        function: importable; it joins the ranks (`ranks.joined`).
        args: picklable.
        num_processes: one per device.

    Returns:
        The result of rank 0.

    Raises:
        UserError: if a rank raised one, or was killed.
        RuntimeError: with the traceback of a rank that raised another error.
        SystemExit: with the exit code of a rank that ended itself.
        KeyboardInterrupt: on Ctrl-C.
    """
    logs = tempfile.mkdtemp(prefix="mindeye_pl_ranks_")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),  # for the ranks' error files
    )
    try:
        with _quiet_launcher(), _signals():
            return elastic_launch(config, function)(*args)[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise _error_of(rank, failure) from None
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def _error_of(rank: int, failure: ProcessFailure) -> BaseException:
    """Return the error of a rank as this process raises it."""
    if not isinstance(failure.message, dict):
        if failure.exitcode > 0:
            return SystemExit(failure.exitcode)
        fix = "the same command again; it resumes from the last checkpoint"
        return UserError(f"rank {rank} was killed", got=failure.signal_name(), fix=fix)
    kind, _, message = failure.message["message"].partition(": ")
    if kind == UserError.__name__:
        return UserError(message)
    return RuntimeError(f"rank {rank} failed:\n{failure.message['extraInfo']['py_callstack']}")


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Keep the launcher's own log messages from the terminal: this process reports the error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _signals() -> Iterator[None]:
    """Pass signals on to the ranks, and restore the handlers from before at the end."""
    before = {number: signal.getsignal(number) for number in (*_ENDING, *_PASSED_ON)}

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
