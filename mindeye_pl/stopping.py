"""The end of a process by a signal: one line, and the exit code that a shell gives it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

#: Variable with the path of a file that a process writes when it has said its line, so that the one which started it
#: adds none.
SAID = "MINDEYE_STOP_SAID"


class Stopped(SystemExit):
    """End of a process that was stopped by a signal; `line` is printed, where there is one, and the code is 128 + N."""

    def __init__(self, number: int, line: str | None = None):
        super().__init__(128 + number)
        self.line = line


def stop(number: int, frame: FrameType | None) -> None:
    """Raise `Stopped`: the handler of SIGTERM, whose default ends the process without a word and leaves locks."""
    raise Stopped(number, f"stopped by {signal.Signals(number).name}; the same command resumes")


def stop_on_sigterm() -> None:
    """End this process with a line when SIGTERM arrives; a training replaces the handler by its own."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt inside a `with` block that Lightning runs in, which turns it into exit code 1."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def exit_with_its_line(stopped: Stopped, *, is_main: bool) -> None:
    """End the process, with the line on stderr from the main process alone."""
    if stopped.line is not None and is_main:
        say(stopped.line)
    sys.exit(stopped.code)


def say(line: str) -> None:
    """Print the line of a process that stops."""
    print(line, file=sys.stderr, flush=True)
    if path := os.environ.get(SAID):
        Path(path).touch()
