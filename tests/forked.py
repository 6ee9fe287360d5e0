"""Commands in a child of the testing process: a process of its own, without the eight seconds of imports."""

import os
import runpy
import shutil
import signal
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra


def last_of_each_key(*arguments: str) -> list[str]:
    """Return overrides without those that a later one of the same key replaces: a command line has each key once."""
    given = {
        argument.lstrip("+").partition("=")[0] if "=" in argument else argument: argument for argument in arguments
    }
    return list(given.values())


class Forked:
    """A running command.

    Args:
        arguments: as behind `python -m MODULE`.
        module: the module.
        folder: current folder of the command, from which its own modules are imported; the present one by default.
    """

    def __init__(self, *arguments: str, module: str = "mindeye_pl", folder: Path | None = None):
        printed = Path(tempfile.mkdtemp())
        self._printed = [printed / name for name in ("out", "err")]
        target = (module, last_of_each_key(*arguments), folder or Path.cwd(), *self._printed)
        self._process = get_context("fork").Process(target=_run, args=target)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """Exit code, -N for signal N; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end and return what was printed to stdout and stderr."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise TimeoutError(f"still running after {timeout} s: {self._printed[1].read_text()}")
        texts = [path.read_text() for path in self._printed]
        shutil.rmtree(self._printed[0].parent)
        return texts[0], texts[1]


def run(*arguments: str, module: str = "mindeye_pl", folder: Path | None = None) -> str:
    """Run a command that succeeds, and return its stdout."""
    command = Forked(*arguments, module=module, folder=folder)
    out, err = command.communicate(timeout=600)
    assert command.returncode == 0, err
    return out


def _run(module: str, arguments: list[str], folder: Path, out: Path, err: Path) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [module, *arguments]
    GlobalHydra.instance().clear()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
