"""Independent tasks spread over processes, with the same results however many there are."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from threadpoolctl import threadpool_limits


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(tasks: Sequence[Callable[[], Any]], workers: int) -> Iterator[tuple[int, Any]]:
    """Runs tasks and yields (index, result) as they finish.

    A matrix product rounds by the number of BLAS threads, so every task has one thread, here or in another process.
    No more results wait to be fetched than there are workers.

    Args:
        tasks: picklable where there are workers, `functools.partial` of module-level functions.
        workers: processes; 0 or 1 runs the tasks in this one.
    """
    if workers <= 1:
        with threadpool_limits(1):
            for index, task in enumerate(tasks):
                yield index, task()
        return
    # A fork would copy the locks of threads that other libraries have started.
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
    import numpy  # noqa: F401 (a limit binds the libraries that are loaded by then)

    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever, or go on writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
