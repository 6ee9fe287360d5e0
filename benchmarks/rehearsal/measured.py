"""A command with its time, exit code and peak memory, on Linux."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL_S = 0.05


@dataclass(frozen=True)
class Measured:
    """Exit code, time and memory of a command.

    Attributes:
        code: exit code.
        seconds: from start to end.
        private_gb: peak of the memory that it and its children do not share with files, in 2^30 bytes.
        resident_gb: peak of all resident memory, pages of mapped files included.
    """

    code: int
    seconds: float
    private_gb: float
    resident_gb: float


def measure(command: Sequence[str], log: Path, environment: Mapping[str, str], stop_at: str | None = None) -> Measured:
    """Run a command with its output in a file; a SIGTERM follows when the output has the text `stop_at`."""
    begin, private, resident = time.monotonic(), 0, 0
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ) | environment)
        while child.poll() is None:
            now = [_memory(process) for process in _tree(child.pid)]
            private, resident = max(private, sum(own for own, _ in now)), max(resident, sum(all_ for _, all_ in now))
            if stop_at and stop_at in log.read_text(errors="replace"):
                child.terminate()
                stop_at = None
            time.sleep(_INTERVAL_S)
    return Measured(child.returncode, time.monotonic() - begin, private / 2**30, resident / 2**30)


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Return private and resident bytes; pages of files, and memory shared with other processes, are not private."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except OSError:  # it has ended
        return 0, 0
    return (resident - shared) * _PAGE, resident * _PAGE
