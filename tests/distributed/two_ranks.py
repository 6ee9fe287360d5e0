"""Two real processes with a gloo process group, for tests of what several devices compute."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing


def on_two_ranks(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Return the results of `function(rank, *args)` on two ranks; it must be importable, its result picklable."""
    torch.multiprocessing.start_processes(_run, (function, folder, args), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _run(rank: int, function: Callable[..., Any], folder: Path, args: tuple) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.save(function(rank, *args), folder / f"{rank}.pt")
    dist.destroy_process_group()
