"""Launch of one process per device on this machine, by PyTorch's elastic launcher."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mindeye_pl.errors import UserError
from mindeye_pl.stopping import SAID, Stopped


def launch(function: Callable[..., Any], *args: Any, num_processes: int) -> Any:
    """Call an importable function, which joins the ranks, with picklable arguments in several processes.

    The processes end together when one fails. The result is that of rank 0.

    Raises:
        UserError: if a rank raised one, or was killed.
        RuntimeError: with the traceback of a rank that raised another error.
        SystemExit: with the exit code of a rank that ended itself.
        Stopped: by a signal, with a line unless a rank has said one.
    """
    made = TemporaryDirectory(prefix="mindeye_pl_ranks_", ignore_cleanup_errors=True)
    with _launcher_settings(), _deaf_to_ctrl_c(), made as folder:
        said = Path(folder) / "said"
        os.environ[SAID] = str(said)
        options: dict[str, Any] = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": num_processes, "max_restarts": 0}
        options |= {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
        logs = DefaultLogsSpecs(log_dir=folder)  # of the ranks' error files
        config = LaunchConfig(**options, run_id=uuid4().hex, logs_specs=logs)
        try:
            return elastic_launch(config, _called)(function, *args)[0]
        except ChildFailedError as error:
            raise _error_of(*error.get_first_failure()) from None
        except SignalException as error:
            line = f"stopped by {signal.Signals(error.sigval).name}; the same command resumes"
            raise Stopped(error.sigval, None if said.exists() else line) from None
        finally:
            del os.environ[SAID]


def _called(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a rank, which hears Ctrl-C from here on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return function(*args)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes inside the block that do not hear Ctrl-C: during their imports they would end with tracebacks.

    Processes and threads inherit the signals that are blocked. This process hears it in a thread of its own.
    """
    done = threading.Event()

    def hear() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        done.wait()

    resource_tracker.ensure_running()  # which would unblock the signal when it starts with the first process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
def _launcher_settings() -> Iterator[None]:
    """Pass SIGUSR1 on to the ranks, restore the handlers that the launcher replaces, and silence its log messages.

    The launcher itself passes other signals on, gives the ranks half a minute, and ends.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
    before, disabled = {number: signal.getsignal(number) for number in numbers}, logging.root.manager.disable

    def pass_on(number: int, _: Any) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, number)

    signal.signal(signal.SIGUSR1, pass_on)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(disabled)
        for number, handler in before.items():
            signal.signal(number, handler)
