"""Blind check of reconstructions: does a classifier that never met a brain recognise the main object?

A small convolutional network learns the category of the main object from simulated scenes of a seed that no world and
no foundation model has, some of them blurred. It is then shown the images of finished runs and of their baselines, with
95 % intervals over images, and the reconstructions minus each baseline, paired by image.

python -m mindeye_pl +experiment=finetune_subj01_1h
python benchmarks/objects_recognised.py outputs/runs/finetune_subj01_1h/LAST [RUN ...]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mindeye_pl.data.simulated.objects import CATEGORIES
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.world import stimulus_scene
from mindeye_pl.decoder import finished_run
from mindeye_pl.metrics.statistics.differences import newcombe_interval
from mindeye_pl.metrics.statistics.intervals import hit_rate_interval
from mindeye_pl.reports.results.summary import provenance, write_summary
from mindeye_pl.reports.sweeps.settings import manifest_of
from mindeye_pl.steps.baselines.images import baseline_steps, read_images
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.steps.brain.trials import hours
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS
from mindeye_pl.steps.inputs.dataset import Images

#: Seed of the scenes that the classifier learns from.
_SEED = 3000
_BATCH_SIZE = 128
#: The object counts as recognised among so many best categories.
TOP = (1, 5)
_WEIGHTS = Path("outputs/benchmarks/object_classifier.pt")


def classifier() -> nn.Sequential:
    """Return the untrained network: images `(B, 3, 64, 64)` to scores of the categories `(B, C)`."""

    def block(channels: int, width: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(width), nn.ReLU()]

    layers = block(3, 32, 2) + block(32, 64, 1) + block(64, 64, 2) + block(64, 128, 1) + block(128, 128, 2)
    layers += block(128, 192, 1)
    return nn.Sequential(
        *layers, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(768, len(CATEGORIES))
    )


def train(steps: int) -> nn.Sequential:
    """Return the network trained on new scenes at every step."""
    torch.manual_seed(0)
    network, rng = classifier(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        images, labels = _scenes(range(step * _BATCH_SIZE, (step + 1) * _BATCH_SIZE))
        loss = F.cross_entropy(network(_degrade(images, rng)), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _scenes(ids: range) -> tuple[Tensor, Tensor]:
    scenes = [stimulus_scene(_SEED, id_) for id_ in ids]
    images = torch.from_numpy(np.stack([render(scene, 64) for scene in scenes]))
    return images, torch.tensor([CATEGORIES.index(scene.objects[0].category) for scene in scenes])


def _degrade(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur half of the images and add noise to all: reconstructions are neither sharp nor clean."""
    half = len(images) // 2
    size = int(rng.choice([16, 24, 32, 48]))
    small = F.interpolate(images[:half], size=(size, size), mode="area")
    blurred = F.interpolate(small, size=(64, 64), mode="bilinear")
    return torch.cat([blurred, images[half:]]) + 0.03 * torch.randn_like(images)


@torch.no_grad()
def recognised(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the rank `(n,)` of each image's category among all, 0 for the first."""
    scores = torch.cat([network(batch) for batch in images.float().split(_BATCH_SIZE)])
    return (scores > scores.gather(1, labels[:, None])).sum(1)


def report(network: nn.Module, run_folder: Path) -> dict[str, Any]:
    """Print one line per kind of image, and return the same as `rows` and `differences`, with what made them."""
    run, _ = finished_run(run_folder)
    artifact = run.find(RECONSTRUCT)
    assert artifact is not None, "the run has no reconstructions"
    data = run.open(Images())
    assert data.is_simulated, "objects are known only in a simulated world"
    made = read_reconstructions(artifact.folder)
    ids = made["stimulus_ids"].tolist()
    scenes = [stimulus_scene(run.config.simulation.seed, id_) for id_ in ids]
    labels = torch.tensor([CATEGORIES.index(scene.objects[0].category) for scene in scenes])
    rows = {"seen images": torch.from_numpy(data.stimuli.read(np.array(ids))).float()}
    ceiling = run.find(DRAW_TRUE_TOKENS)
    if ceiling is not None:
        rows["true tokens"] = read_reconstructions(ceiling.folder)["images"]
    rows |= {name.replace("_", " "): made[name] for name in made if "images" in name}
    baselines = {step.title.lower(): run.find(step) for step in baseline_steps(run.config)}
    rows |= {title: read_images(found.folder) for title, found in baselines.items() if found is not None}
    ranks = {name: recognised(network, images, labels) for name, images in rows.items()}
    print(f"{run_folder}: {len(ids)} images, {len(CATEGORIES)} categories (chance {_chance(1):.1%}), simulated")
    prefix = "all" if run.config.data.num_sessions == "all" else f"{hours(run.config.data.num_sessions)} h"
    used = [artifact, ceiling, *baselines.values()]
    made_with = [manifest_of(str(each.folder))["made_with"] for each in used if each is not None]
    found: dict[str, Any] = {"rows": {}, "differences": {}, "made_with": made_with, "seed": run.config.seed}
    for name, rank in ranks.items():
        hits = {top: _hits(rank, top) for top in TOP}
        print(f"  {name:36s} {'  '.join(f'top {top} {_percent(each)}' for top, each in hits.items())}")
        found["rows"][f"{prefix}: {name}"] = {
            f"object_top_{top}": _score(each.mean(), hit_rate_interval(each), len(each)) | {"chance": _chance(top)}
            for top, each in hits.items()
        }
    for name in [name for name in ranks if name in baselines]:
        pairs = {top: (_hits(ranks["images"], top), _hits(ranks[name], top)) for top in TOP}
        title = f"images − {name}"
        print(f"  {title:36s} {'  '.join(f'top {top} {_points(*pair)}' for top, pair in pairs.items())}")
        found["differences"][f"{prefix}: {title}"] = {
            f"object_top_{top}": _score((first - second).mean(), newcombe_interval(first, second), len(first))
            for top, (first, second) in pairs.items()
        }
    return found


def summary(runs: Sequence[Path], reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the reports as `mindeye_pl.commands.results_tables` reads them."""
    column = {"form": "percent", "higher_is_better": True}
    return {
        "experiment": "objects_recognised",
        "command": "python benchmarks/objects_recognised.py " + " ".join(run.parent.name for run in runs),
        **provenance([made for each in reports for made in each["made_with"]], runs[0], ()),
        "simulated": True,
        "seeds": sorted({each["seed"] for each in reports}),
        "columns": {
            f"object_top_{top}": {"title": "Object named" if top == 1 else f"Among the first {top}", **column}
            for top in TOP
        },
        "rows": {name: row for each in reports for name, row in each["rows"].items()},
        "differences": {name: row for each in reports for name, row in each["differences"].items()},
        "findings": [],
    }


def _chance(top: int) -> float:
    return top / len(CATEGORIES)


def _score(value: float, interval: tuple[float, float], count: int) -> dict[str, Any]:
    return {"value": round(float(value), 6), "interval": [round(end, 6) for end in interval], "num_images": count}


def _hits(rank: Tensor, top: int) -> np.ndarray:
    return (rank < top).double().numpy()


def _percent(hits: np.ndarray) -> str:
    low, high = hit_rate_interval(hits)
    return f"{100 * hits.mean():5.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _points(first: np.ndarray, second: np.ndarray) -> str:
    low, high = newcombe_interval(first, second)
    return f"{100 * (first - second).mean():+5.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def main() -> None:
    """Train the classifier, or read the one of a run before, and print a table per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/results.md")
    arguments = parser.parse_args()
    network = classifier().eval()
    if _WEIGHTS.is_file():
        network.load_state_dict(torch.load(_WEIGHTS, weights_only=True))
    else:
        network = train(arguments.steps)
        _WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), _WEIGHTS)
    images, labels = _scenes(range(10**6, 10**6 + 1000))
    print(f"held-out scenes: {100 * (recognised(network, images, labels) == 0).float().mean():.1f} % of 1000")
    reports = [report(network, run) for run in arguments.runs]
    write_summary(arguments.output, summary(arguments.runs, reports))


if __name__ == "__main__":
    main()
