"""Time of a training step of MindEye2, as ratios measured in one run.

    python benchmarks/training_step.py [--size laptop|middle] [--device cpu|cuda] [--rounds 7] [--steps 20]

Three loops train the same model on the same batch, in turn, round after round:

* `framework`: `mindeye_pl.training.fit`, with Lightning, its callbacks, checkpoints and logs; targets are cached;
* `bare`: the same modules, targets and optimiser in a Python loop without any of that;
* `plain`: a loop in the shape of the published code: the images of each batch go through the frozen CLIP and VAE, the
  optimiser updates one tensor after the other, and each loss is read as a number.

Printed are the median seconds of a step, and the ratios `framework / bare` (the overhead of the framework) and
`plain / framework` (the gain over the published shape), each with the smallest and the largest of all rounds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from mindeye_pl.config import compose_config
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.schedule import published_onecycle
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.environment import environment
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.build import build_model
from mindeye_pl.training.fit import fit
from mindeye_pl.training.settings import TrainingSettings
from mindeye_pl.types import BrainBatch
from mindeye_pl.weights.loaders import bundled

#: Overrides of a size, and voxels of the subject.
SIZES = {
    "laptop": ([], 3_000),
    "middle": (
        ["scale.hidden_dim=1024", "scale.prior_depth=6", "scale.prior_head_dim=64", "scale.prior_heads=8"],
        15_724,
    ),
}
IMAGE_SIZE = 64
#: Steps at the beginning of a loop that are not counted.
WARM_UP = 3


class OneBatch(LightningDataModule):
    """The same batch again and again."""

    def __init__(self, batch: BrainBatch, steps: int):
        super().__init__()
        self.batch, self.steps = batch, steps

    def train_dataloader(self) -> Any:
        """Return the batches of an epoch."""
        batches: Any = [self.batch] * self.steps
        return DataLoader(batches, batch_size=None, num_workers=0)


class StepTimes(Callback):
    """Notes when each step begins."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.began = device, list[float]()

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self.began.append(now(self.device))


class Benchmark:
    """A model of a size with a batch, its images and the frozen networks that make its targets."""

    def __init__(self, size: str, device: torch.device):
        overrides, voxels = SIZES[size]
        self.device, self.voxels = device, voxels
        trainer = "trainer=cpu" if device.type == "cpu" else "trainer=gpu"
        self.config: DictConfig = compose_config(["+experiment=scratch", "logger=none", trainer, *overrides])
        self.embedder = bundled.load_embedder(bundled.SHIPPED).to(device)
        self.vae = bundled.load_vae(bundled.SHIPPED).to(device)
        count = self.config.finetune.batch_size
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator).to(device)
        targets = self.targets() | {"tokens": self.embed().half()}
        brain = torch.randn(count, voxels, generator=generator)
        ids = torch.arange(count)
        self.batch = BrainBatch([brain.to(device)], [0], ids.to(device), targets)

    @torch.no_grad()
    def embed(self) -> Tensor:
        """Return the images' tokens."""
        return self.embedder(self.images)

    @torch.no_grad()
    def targets(self) -> dict[str, Tensor]:
        """Return the targets of the low-level branch."""
        latents = self.vae.encode(2 * self.images - 1).latent_dist.mode() * self.vae.config["scaling_factor"]
        return {"latents": latents}

    def model(self) -> BrainDecoder:
        """Return the model with fresh weights."""
        return build_model(self.config, [self.voxels]).to(self.device).train()

    def framework(self, steps: int) -> list[float]:
        """Return the seconds of each step in `fit`."""
        times, batch = StepTimes(self.device), self.batch
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingSettings.of(self.config, "benchmark")
            data = OneBatch(batch, steps)
            fit(self.model(), data, Path(folder), settings, budget=Budget(1), title="fit", callbacks=[times])
        return [after - before for before, after in zip(times.began, times.began[1:], strict=False)]

    def bare(self, steps: int) -> list[float]:
        """Return the seconds of each step of a loop over the same modules."""
        return self._loop(steps, fused=True, batch_of=lambda: self.batch, read=lambda loss: None)

    def plain(self, steps: int) -> list[float]:
        """Return the seconds of each step of a loop in the published shape."""

        def embedded() -> BrainBatch:
            targets = self.targets() | {"tokens": self.embed().half()}
            return BrainBatch(self.batch.voxels, self.batch.subject_index, self.batch.stimulus_ids, targets)

        def read(parts: dict[str, Tensor]) -> None:
            for value in parts.values():
                value.item()

        return self._loop(steps, fused=False, batch_of=embedded, read=read)

    def _loop(
        self, steps: int, *, fused: bool, batch_of: Callable[[], BrainBatch], read: Callable[[dict[str, Tensor]], None]
    ) -> list[float]:
        model, max_lr = self.model(), self.config.scale.max_lr
        groups = [group for part in model.parts().values() for group in part.parameter_groups()]
        optimizer = torch.optim.AdamW(groups, lr=max_lr, fused=fused, foreach=False)
        scheduler = published_onecycle(optimizer, iterations_per_epoch=[steps], max_lr=max_lr)
        seconds = []
        for _ in range(steps):
            began = now(self.device)
            optimizer.zero_grad()
            loss = model.compute_loss(batch_of(), epoch=0, num_epochs=1)
            loss.total.backward()
            optimizer.step()
            scheduler.step()
            read(loss.parts)
            seconds.append(now(self.device) - began)
        return seconds


def now(device: torch.device) -> float:
    """Return the time after all work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest of the ratios of paired rounds."""
    found = [first / second for first, second in zip(above, below, strict=True)]
    return {"median": median(found), "min": min(found), "max": max(found)}


def main() -> None:
    """Run the loops in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="laptop")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.size, arguments.device)
    seconds: dict[str, list[float]] = {"framework": [], "bare": [], "plain": []}
    for _ in range(arguments.rounds):
        for name, rounds in seconds.items():
            rounds.append(median(getattr(benchmark, name)(arguments.steps + WARM_UP)[WARM_UP:]))
    found: dict[str, Any] = {
        "size": arguments.size,
        "seconds_per_step": {name: median(rounds) for name, rounds in seconds.items()},
        "framework / bare": ratios(seconds["framework"], seconds["bare"]),
        "plain / framework": ratios(seconds["plain"], seconds["framework"]),
        "environment": environment(),
    }
    for name, value in found["seconds_per_step"].items():
        print(f"{name:20s} {1000 * value:8.1f} ms a step")
    for name in ("framework / bare", "plain / framework"):
        print(f"{name:20s} {found[name]['median']:8.3f} ({found[name]['min']:.3f} to {found[name]['max']:.3f})")
    if arguments.output is not None:
        write_text(arguments.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
