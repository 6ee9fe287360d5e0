"""Paired timings: what several ways of doing the same work cost, and the gap to what the machine can do at best."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary

#: Largest side of the product of matrices that stands for what a device can do.
_SIDE = {"cpu": 2048, "cuda": 8192}
RATIO = Column("Ratio", "ratio", form="number")


def now(device: torch.device) -> float:
    """Return the time after all work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def paired(ways: Mapping[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each way; all ways run in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds + 1):
        for name, way in ways.items():
            began = now(device)
            way()
            if index:
                seconds[name].append(now(device) - began)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Return the median of the ratios of paired rounds; the interval is the smallest and the largest."""
    found = [first / second for first, second in zip(above, below, strict=True)]
    return {"value": median(found), "interval": [min(found), max(found)]}


def floating_point_operations(work: Callable[[], Any]) -> int:
    """Return the operations of the matrix products and convolutions of some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def at_best(operations: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    """Return work of large matrix products with as many operations: the floor of any work with these."""
    count = -(-operations // (2 * _SIDE[device.type] ** 3))
    side = round((operations / (2 * count)) ** (1 / 3))
    one = torch.randn(side, side, device=device, dtype=dtype)

    def products() -> None:
        for _ in range(count):
            torch.mm(one, one)

    return products


def arguments_of(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that every timing has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/performance.md")
    return parser


def report(name: str, rows: Mapping[str, Mapping[str, Any]], output: Path | None) -> None:
    """Print ratios by title, and write them as a summary."""
    for title, row in rows.items():
        print(f"{title:60s} {row['value']:8.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})", flush=True)
    found = {title: {RATIO.score: row} for title, row in rows.items()}
    write_summary(output, benchmark_summary(name, f"python benchmarks/{name}.py", [RATIO], found))
