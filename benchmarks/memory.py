"""Memory of a training step at full size, computed without a GPU: weights, gradients, optimiser, activations, peak.

Nothing is computed but shapes (`mindeye_pl.training.memory`); the figures are exact for tensors and leave out what
kernels allocate and fragments waste, for which `required` adds a tenth. For `trainer=gpu24`, whose optimiser is on the
host, the optimiser's state is subtracted.

python benchmarks/memory.py [--output FILE.json]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mindeye_pl.config import compose_config
from mindeye_pl.data.nsd.constants import VOXEL_COUNTS
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.training.build import build_model
from mindeye_pl.training.callbacks.memory_preflight import PRESETS
from mindeye_pl.training.callbacks.recompute import recompute
from mindeye_pl.training.memory import GIB, TrainingMemory, training_memory
from mindeye_pl.types import BrainBatch

SCALES = ("paper", "small")
#: Subject that is fine-tuned; the others are the pretraining's.
SUBJECT = 1
_COLUMNS = ("weights", "gradients", "optimizer", "activations", "peak", "required")


def batch_of(config: Any, voxel_counts: list[int], size: int) -> BrainBatch:
    """Return a batch of MindEye2's shapes."""
    each, embedder = size // len(voxel_counts), config.embedder
    count = each * len(voxel_counts)
    targets = {
        "tokens": torch.empty(count, embedder.num_tokens, embedder.token_dim, dtype=torch.float16),
        "latents": torch.empty(count, 4, 28, 28),
        "maps": torch.empty(count, 2 * 49, 512),
    }
    voxels = [torch.empty(each, voxels) for voxels in voxel_counts]
    return BrainBatch(voxels, list(range(len(voxels))), torch.empty(count, dtype=torch.int64), targets)


def measure(config: Any, voxel_counts: list[int], size: int, *, recomputes: bool) -> TrainingMemory:
    """Return the memory of a step of `size` trials."""
    with FakeTensorMode() as mode:
        model, batch = build_model(config, voxel_counts).train(), batch_of(config, voxel_counts, size)
    names = list(config.callbacks.recompute.modules) if recomputes else []

    def compute_loss(model: Any, batch: BrainBatch) -> torch.Tensor:
        recompute(model, names)
        return model.compute_loss(batch, epoch=0, num_epochs=1).total

    def adamw(model: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)

    return training_memory(model, batch, compute_loss, adamw, precision=config.trainer.precision, mode=mode)


def rows() -> dict[str, dict[str, Any]]:
    """Return the rows of the table."""
    found = {}
    others = [count for subject, count in VOXEL_COUNTS.items() if subject != SUBJECT]
    for scale in SCALES:
        for preset, (recomputes, on_host) in PRESETS.items():
            config = compose_config(
                ["+experiment=finetune_subj01_1h", "data=nsd", f"scale={scale}", f"trainer={preset}"]
            )
            for name, counts in (("finetune", [VOXEL_COUNTS[SUBJECT]]), ("pretrain", others)):
                memory = measure(config, counts, config[name].batch_size, recomputes=recomputes)
                state = memory.optimizer if on_host else 0
                sizes = {column: getattr(memory, column) for column in _COLUMNS}
                sizes |= {"optimizer": memory.optimizer - state, "peak": memory.peak - state}
                sizes["required"] = 1.1 * sizes["peak"]
                title = f"{scale}, {name}, {preset}"
                found[title] = {column: {"value": round(size / GIB, 3)} for column, size in sizes.items()}
                print(f"{title:28s}" + "".join(f"{column} {size / GIB:6.1f}  " for column, size in sizes.items()))
    return found


def main() -> None:
    """Print the table, and write it as a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/performance.md")
    arguments = parser.parse_args()
    columns = [Column(name.capitalize(), name, form="number", higher_is_better=False) for name in _COLUMNS]
    summary = benchmark_summary("memory", "python benchmarks/memory.py", columns, rows())
    write_summary(arguments.output, summary)


if __name__ == "__main__":
    main()
