"""Growth of a training step's work and memory at paper size with batch, subjects and voxels, computed without a GPU.

    python benchmarks/growth.py [--output docs/results/growth.json] [--plot docs/images/growth.png]
    python benchmarks/growth.py --betas FOLDER         # also with sessions, measured on a dataset's files

A step is run on tensors without memory; its operations and bytes are counted. `exponent` is the slope of the logarithm
between the last two values: 1 grows as fast as the axis, 0 not at all. With `--betas`, a process for each number of
sessions opens the data, makes the first batch, and says its processor time and its peak of memory.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from memory import batch_of, measure
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mindeye_pl.config import compose_config
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.store.atomic import replacing
from mindeye_pl.training.build import build_model
from mindeye_pl.training.memory import GIB

BATCHES, SUBJECTS, VOXELS, SESSIONS = (6, 12, 24, 48), (1, 2, 4, 8), (5_000, 10_000, 20_000, 40_000), (1, 5, 10, 20, 40)
#: Of NSD's first subject, and the published batch size.
NUM_VOXELS, BATCH = 15_724, 24
COLUMNS = (
    Column("TFLOP of a step", "operations", form="number", higher_is_better=False),
    Column("Peak, GB", "peak", form="number", higher_is_better=False),
    Column("First batch, CPU s", "seconds", form="number", higher_is_better=False),
    Column("Exponent of time", "time_exponent", form="number", higher_is_better=False),
    Column("Exponent of memory", "memory_exponent", form="number", higher_is_better=False),
)

#: Opens the data of one subject, makes the first batch; prints its processor seconds and the peak in bytes.
FIRST_BATCH = """
import resource, sys, time
import numpy as np
from mindeye_pl.data.datamodule import TrialDataModule
root, cache, sessions = sys.argv[1:]
began = time.process_time()
data = TrialDataModule(root, [1], cache_dir=cache, num_sessions=int(sessions), seed=0)
data.targets = {"tokens": np.zeros((73_000, 1), np.float16)}
data.setup("fit")
next(iter(data.train_dataloader()))
seconds = time.process_time() - began
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def operations(config: Any, voxel_counts: list[int], size: int) -> float:
    """Return the operations of the forward and backward pass of a step."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model, batch = build_model(config, voxel_counts).train(), batch_of(config, voxel_counts, size)
        model.compute_loss(batch, epoch=0, num_epochs=1).total.backward()
    return counter.get_total_flops()


def step_rows() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield titles and figures of steps with other batches, subjects and voxels."""
    config = compose_config(["+experiment=finetune_subj01_1h", "data=nsd", "scale=paper", "trainer=gpu80"])
    axes = [(f"batch {size}", [NUM_VOXELS], size) for size in BATCHES]
    axes += [(f"subjects {count}", [NUM_VOXELS] * count, BATCH) for count in SUBJECTS]
    axes += [(f"voxels {count}", [count], BATCH) for count in VOXELS]
    for title, voxel_counts, size in axes:
        peak = measure(config, voxel_counts, size, recomputes=False).peak
        yield title, {"operations": operations(config, voxel_counts, size) / 1e12, "peak": peak / GIB}


def session_rows(root: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield titles and figures of the first batch with more and more sessions, once the shards are indexed."""
    for index, sessions in enumerate((max(SESSIONS), *SESSIONS)):
        command = [sys.executable, "-c", FIRST_BATCH, str(root), str(root.parent / "index"), str(sessions)]
        seconds, peak = map(float, subprocess.check_output(command).split())
        if index:  # the first makes the index of the shards
            yield f"sessions {sessions}", {"seconds": seconds, "peak": peak / GIB}


def with_exponents(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rows as scores; the last of each axis has the exponents."""
    for before, last in _ends(rows):
        step = math.log(int(last.split()[1]) / int(before.split()[1]))
        time = "operations" if "operations" in rows[last] else "seconds"
        for source, column in ((time, "time_exponent"), ("peak", "memory_exponent")):
            rows[last][column] = math.log(rows[last][source] / rows[before][source]) / step
    return {title: {name: {"value": round(value, 3)} for name, value in row.items()} for title, row in rows.items()}


def _ends(titles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the last two titles of each axis."""
    for _, own in groupby(titles, key=lambda title: title.split()[0]):
        *_, before, last = own
        yield before, last


def plot(rows: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Draw time and memory against each axis, one above the other."""
    from matplotlib.figure import Figure

    axes = [list(own) for _, own in groupby(rows, key=lambda title: title.split()[0])]
    figure = Figure(figsize=(2.8 * len(axes), 4.4), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, titles in enumerate(axes):
        axis = titles[0].split()[0]
        time, unit = ("seconds", "first batch, CPU s") if axis == "sessions" else ("operations", "step, TFLOP")
        for panel, score, label in zip(panels[:, column], (time, "peak"), (unit, "peak, GB"), strict=True):
            values = [rows[title][score]["value"] for title in titles]
            panel.plot([int(title.split()[1]) for title in titles], values, marker="o", color="#3b6ea5")
            panel.set(xlabel=axis, ylabel=label, ylim=(0, 1.1 * max(values)), xlim=(0, None))
            panel.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def main() -> None:
    """Print the table, write it as a summary, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--betas", type=Path, help="folder of a dataset with 40 sessions of subject 1")
    parser.add_argument("--output", type=Path, help="a summary for the table of docs/performance.md")
    parser.add_argument("--plot", type=Path, help="a PNG file")
    arguments = parser.parse_args()
    rows = with_exponents(dict([*step_rows(), *(session_rows(arguments.betas) if arguments.betas else [])]))
    for title, scores in rows.items():
        print(f"{title:18s}", "  ".join(f"{name} {score['value']:.3f}" for name, score in scores.items()))
    write_summary(arguments.output, benchmark_summary("growth", "python benchmarks/growth.py", COLUMNS, rows))
    if arguments.plot is not None:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
