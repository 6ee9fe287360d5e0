"""Independent tasks in several processes, with results that do not depend on the number of processes."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from threadpoolctl import threadpool_limits


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(tasks: Sequence[Callable[[], Any]], workers: int) -> Iterator[tuple[int, Any]]:
    """Run tasks and yield (index, result) as they finish, with `workers` processes; 0 or 1 uses this process.

    Matrix products round depending on the number of BLAS threads, so every task has one thread. At most as many results
    as workers wait to be fetched. With workers the tasks must be picklable, such as partials of module-level functions.
    """
    if workers <= 1:
        with threadpool_limits(1):
            for index, task in enumerate(tasks):
                yield index, task()
        return
    # A fork would copy locks held by threads of other libraries.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_prepare_worker)
    try:
        waiting, running = list(enumerate(tasks))[::-1], dict[Future, int]()
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                index, task = waiting.pop()
                running[pool.submit(task)] = index
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    import numpy  # noqa: F401 (thread limits apply only to libraries that are already loaded)

    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent process dies; otherwise the worker would wait for tasks forever, or keep writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
