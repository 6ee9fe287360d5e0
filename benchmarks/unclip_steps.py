"""Quality of the laptop's unCLIP against the number of its steps, by solver, from the true tokens of held-out scenes.

Every image starts from the same noise in every row. Differences are paired by image,
with most steps of the first guidance.

python benchmarks/unclip_steps.py [--images 256] [--guidance 4 2.5] [--steps 38 10 6 4] [--solvers dpm_multistep ...]
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.world import stimulus_scene
from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.pixels import pixcorr_per_image
from mindeye_pl.metrics.statistics.differences import difference_over_images
from mindeye_pl.metrics.statistics.intervals import interval_over_images
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.weights.loaders import bundled

#: Scenes of no training and no simulated world.
_SEED, _FIRST = 7, 10**6
_BATCH_SIZE = 64
#: Scores by name: title, and whether the table prints percent.
SCORES = (Column("PixCorr", "pixcorr", form="number"), Column("CLIP 2-way", "clip_two_way"))


class Seen:
    """Images `(N, 3, H, W)` with their embeddings, which drawn ones are scored against."""

    def __init__(self, images: Tensor):
        self.images, self.embedder = images, bundled.load_embedder(bundled.SHIPPED)
        self.embeddings = self._batched(self.embedder.pooled, images)

    def scores(self, drawn: Tensor) -> dict[str, np.ndarray]:
        """Return the scores of each drawn image `(N,)` by name."""
        similarities = correlation_matrix(self._batched(self.embedder.pooled, drawn), self.embeddings)
        two_way = n_way_per_image(similarities, n=2)
        pixcorr = pixcorr_per_image(drawn, self.images, size=None)
        return {"pixcorr": np.asarray(pixcorr), "clip_two_way": np.asarray(two_way)}

    @staticmethod
    @torch.inference_mode()
    def _batched(network: Any, images: Tensor) -> Tensor:
        return torch.cat([network(part) for part in images.split(_BATCH_SIZE)]).clone()


class Scenes(Seen):
    """Held-out scenes with their tokens."""

    def __init__(self, count: int):
        scenes = [render(stimulus_scene(_SEED, id_), 64) for id_ in range(_FIRST, _FIRST + count)]
        super().__init__(torch.from_numpy(np.stack(scenes)).float())
        self.tokens = self._batched(self.embedder, self.images)

    def drawn_by(self, unclip: UnCLIPModel, sampling: Sampling) -> dict[str, np.ndarray]:
        """Return the scores of the images that an unCLIP draws from the tokens as `sampling` says."""
        unclip.sampling = sampling
        seeds = torch.arange(len(self.tokens)).split(_BATCH_SIZE)
        return self.scores(torch.cat([unclip.draw(self.tokens[ids], ids.tolist()) for ids in seeds]))


def main() -> None:
    """Print the table, and write it as a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--guidance", type=float, nargs="+", default=[4.0, 2.5])
    parser.add_argument("--steps", type=int, nargs="+", default=[38, 10, 6, 4])
    parser.add_argument("--solvers", nargs="+", default=["dpm_multistep"])
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/performance.md")
    arguments = parser.parse_args()
    steps = sorted(arguments.steps, reverse=True)
    scenes, unclip = Scenes(arguments.images), bundled.load_unclip(bundled.SHIPPED)
    rows, differences = dict[str, Any](), dict[str, Any]()
    for solver in arguments.solvers:
        reference: dict[str, np.ndarray] | None = None
        for guidance, count in product(arguments.guidance, steps):
            sampling = Sampling(solver=solver, steps=count, guidance=guidance)
            scores = scenes.drawn_by(unclip, sampling)
            reference = reference or scores
            name = f"{solver}, guidance {guidance:g}, {count} steps"
            against = f"{name} − guidance {arguments.guidance[0]:g}, {steps[0]} steps"
            rows[name], differences[against] = compared(name, scores, reference)
    command = f"python benchmarks/unclip_steps.py --images {arguments.images}"
    summary = benchmark_summary("unclip_steps", command, SCORES, rows, differences=differences)
    write_summary(arguments.output, summary)


def compared(
    name: str, scores: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Print and return a summary's row of scores by image `(n,)`, and its differences from those of a reference."""
    row, differences, words = dict[str, Any](), dict[str, Any](), []
    for score, values in scores.items():
        row[score] = plain(values.mean(), interval_over_images(values, hits=False), len(values))
        paired = difference_over_images(values, reference[score])
        differences[score] = plain(paired.value, paired.interval, len(values))
        low, high = paired.interval
        words.append(f"{score} {values.mean():.4f} ({paired.value:+.4f}, {low:+.4f} to {high:+.4f})")
    print(f"{name:40s} {'  '.join(words)}", flush=True)
    return row, differences


def plain(value: float, interval: tuple[float, float], count: int) -> dict[str, Any]:
    """Return a score as a summary has it."""
    return {"value": round(float(value), 6), "interval": [round(end, 6) for end in interval], "num_images": count}


if __name__ == "__main__":
    main()
