"""The processes of the other ranks, where rank 0 starts them itself: started together, ended together.

They run `python -m mindeye_pl` without arguments: a rank takes everything from the word of rank 0 (`ranks`). Nothing of
theirs reaches the terminal. The errors of one that fails are kept and told by rank 0.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO

from torch.distributed import TCPStore  # type: ignore[attr-defined]

#: In the environment of a rank that was started here: the process that leads it.
LEADER = "MINDEYE_PL_LEADER"

_HOST = "127.0.0.1"
_GRACE_S = 10.0


class RankProcesses:
    """Ranks 1 to `world_size - 1` on this machine.

    The environment says to Lightning that the ranks are there already, as torchrun would, so that it starts none. It
    is put back by `close`.

    Args:
        world_size: ranks in all, this process among them.
    """

    def __init__(self, world_size: int):
        # Lightning's process group shares this store's server, so that no port is promised before it is taken.
        self.store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
        place = {"MASTER_ADDR": _HOST, "MASTER_PORT": str(self.store.port)}
        place |= {"WORLD_SIZE": str(world_size), "NODE_RANK": "0", "LOCAL_RANK": "0"}
        self._before = {name: os.environ.get(name) for name in (*place, "OMP_NUM_THREADS")}
        os.environ.update(place)
        self._closed = threading.Event()
        self._errors: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen] = []
        for rank in range(1, world_size):
            self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115  # lives as long as the process
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "mindeye_pl"],
                    env=os.environ | {"LOCAL_RANK": str(rank), LEADER: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors[-1],
                )
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def failed(self, wait_s: float = 0.0) -> tuple[int, str] | None:
        """Exit code and errors of a rank that has ended on its own; waits for one to do so."""
        until = time.monotonic() + wait_s
        while True:
            for process, errors in zip(self._processes, self._errors, strict=True):
                if process.poll():
                    errors.seek(0)
                    return process.returncode, errors.read().decode(errors="replace").strip()
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def close(self, *, at_once: bool) -> None:
        """Ends the processes, those that do not end in time by force."""
        self._closed.set()
        for process in self._processes:
            if at_once:
                process.kill()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for errors in self._errors:
            errors.close()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _watch(self) -> None:
        """Ends everything when a rank has failed and this process hangs in a collective that cannot end."""
        while not self._closed.wait(0.5):
            if (found := self.failed()) and not self._closed.wait(_GRACE_S):
                code, errors = found
                print(errors, file=sys.stderr, flush=True)
                for process in self._processes:
                    process.kill()
                os._exit(max(code, 1))


def end_with_leader() -> None:
    """Ends this process soon after the one that started it, however that one ended."""
    leader = int(os.environ[LEADER])

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
