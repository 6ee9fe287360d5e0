"""Time of a training step of MindEye2, as ratios measured in one run.

    python benchmarks/training_step.py [--size laptop|middle] [--device cpu|cuda] [--rounds 5] [--steps 20]
                                       [--output FILE.json]

Three loops train the same model on the same batch, in turn, round after round:

* `framework`: `mindeye_pl.training.fit`, with Lightning, its callbacks, checkpoints and logs; targets are cached;
* `bare`: the same modules, targets and optimiser in a Python loop without any of that;
* `plain`: a loop in the shape of the published code: the images of each batch go through the frozen CLIP and VAE, the
  optimiser updates one tensor after the other, and each loss is read as a number.

Printed are the median seconds of a step, and medians of the ratios of paired rounds with the smallest and the largest:
`framework / bare` is the overhead of the framework, `plain / framework` the gain over the published shape, and
`bare / floor` the gap to products of large matrices with as many operations as forward and backward pass. The parts'
shares of the forward operations are printed beside.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule
from timing import arguments_of, at_best, now, paired, ratio, report
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mindeye_pl.config import compose_config
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.schedule import published_onecycle
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

    def operations(self) -> dict[str, int]:
        """Return the operations of each part's forward pass, and of both passes of all under an empty name."""
        model = self.model()
        found, entered = dict.fromkeys(model.parts(), 0), list[int]()
        with FlopCounterMode(display=False) as counter:

            def enter(*_: Any) -> None:
                entered.append(counter.get_total_flops())

            def leave(part: str) -> None:
                began = entered.pop()
                if not entered:  # of the outermost module
                    found[part] += counter.get_total_flops() - began

            for name, part in model.parts().items():
                for module in part.modules():
                    module.register_forward_pre_hook(enter)
                    module.register_forward_hook(lambda *_, name=name: leave(name))
            model.compute_loss(self.batch, epoch=0, num_epochs=1).total.backward()
        return found | {"": counter.get_total_flops()}

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


def main() -> None:
    """Run the loops in turn and print the ratios."""
    parser = arguments_of(__doc__)
    parser.add_argument("--size", choices=SIZES, default="laptop")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.size, arguments.device)
    operations = benchmark.operations()
    total = operations.pop("")
    floor = at_best(total, arguments.device, torch.float32)
    seconds: dict[str, list[float]] = {"framework": [], "bare": [], "plain": [], "floor": []}
    for _ in range(arguments.rounds):
        for name in ("framework", "bare", "plain"):
            steps = getattr(benchmark, name)(arguments.steps + WARM_UP)[WARM_UP:]
            seconds[name].append(median(steps))
        seconds["floor"] += paired({"floor": floor}, arguments.device, 1)["floor"]
    for name, rounds in seconds.items():
        print(f"{name:60s} {1000 * median(rounds):8.1f} ms a step")
    for part, own in operations.items():
        print(f"forward operations of {part:38s} {100 * own / sum(operations.values()):8.1f} %")
    pairs = [("framework", "bare"), ("plain", "framework"), ("bare", "floor")]
    rows = {f"{arguments.size}: {a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs}
    report("training_step", rows, arguments.output)


if __name__ == "__main__":
    main()
