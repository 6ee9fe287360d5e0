"""Launch of one process per device on this machine, by PyTorch's elastic launcher."""

import logging
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mindeye_pl.errors import UserError

#: Signals that the launcher takes over and passes on to the ranks.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


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
        with _quiet_launcher(), _restored_signals():
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


def _error_of(rank: int, failure: ProcessFailure) -> Exception:
    """Return the error of a rank as this process raises it."""
    if not isinstance(failure.message, dict):
        cause = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        fix = "the same command again; it resumes from the last checkpoint"
        return UserError(f"rank {rank} ended without an error message", got=cause, fix=fix)
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
def _restored_signals() -> Iterator[None]:
    """Restore the signal handlers that the launcher replaces."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
