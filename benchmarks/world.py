"""Acceptance of a simulated world: does it reproduce what is known of NSD? Baselines and frozen networks alone.

Every relation is measured on one subject with ten sessions: ridge regression, tuned on training images, from voxels to
the laptop's tokens and VAE latents; the bundled CLIP, VAE and unCLIP; no trained decoder. Each line prints its figure
for every seed of the world, the target, and whether all seeds meet it.

python benchmarks/world.py [--seeds 0 1 2] [--output FILE.json]
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.betas import read_betas, read_noise_free
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.layout.trials import Trials, load_test_trials, load_training_trials
from mindeye_pl.data.simulated.world import SimulationSettings, simulate_nsd
from mindeye_pl.metrics.brain_correlation import brain_correlation_per_image, voxel_correlation_per_voxel
from mindeye_pl.metrics.encoding import RidgeEncoder
from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.noise_ceiling import noise_ceiling
from mindeye_pl.metrics.pixels import pixcorr_per_image
from mindeye_pl.metrics.retrieval import retrieval_scores
from mindeye_pl.metrics.ridge_tuning import tuned_ridge
from mindeye_pl.nn.clip.clip_embedder import CLIPImageEmbedder
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.steps.inputs.encoder_features import image_features
from mindeye_pl.weights.loaders import bundled

SUBJECT = 1
_BATCH_SIZE = 50
_PENALTIES = tuple(10.0**power for power in range(1, 7))
#: Patterns of shared noise that are looked for.
_NUM_PATTERNS = 30


@dataclass(frozen=True)
class Line:
    """A relation of NSD and the range that a world should be in."""

    name: str
    low: float
    high: float
    question: str


LINES = (
    Line("ncsnr", 0.36, 0.44, "median single-trial ncsnr of the voxels"),
    Line("ncsnr_spread", 0.54, 0.66, "standard deviation of its logarithm"),
    Line("shared_noise", 0.20, 0.30, "fraction of the noise variance in thirty shared patterns"),
    Line("overlap", 0.3, 1.0, "fraction of that inside the directions of the signal"),
    Line("ridge_image_retrieval", 0.15, 0.40, "ridge to tokens, all sessions: image retrieval of 300"),
    Line("ridge_latents_pixcorr", 0.35, 0.50, "ridge to VAE latents, decoded: PixCorr"),
    Line("ridge_latents_two_way", 0.55, 0.70, "ridge to VAE latents, decoded: CLIP 2-way"),
    Line("true_tokens_two_way", 0.99, 1.0, "true tokens through the unCLIP: CLIP 2-way"),
    Line("one_repetition_pixcorr", -1.0, -0.03, "PixCorr of the same by one repetition, minus three"),
    Line("one_repetition_retrieval", -1.0, -0.03, "image retrieval by one repetition, minus three"),
    Line("brain_correlation", 0.2, 0.8, "brain correlation of the true image through the fitted encoder"),
    Line("of_ceiling", 0.6, 1.0, "the same, as a fraction of that of the noise-free responses"),
)


@dataclass(frozen=True)
class World:
    """One subject of a simulated world, in memory.

    Attributes:
        trials: of training.
        betas: `(T, V)` of these trials.
        test_ids: `(N,)` test images, ascending.
        responses: `(N, R, V)` to the test images, in the order of the trials.
        noise_free: `(N, V)`.
        ncsnr: `(V,)`.
        stimuli: all images.
    """

    trials: Trials
    betas: np.ndarray
    test_ids: np.ndarray
    responses: np.ndarray
    noise_free: np.ndarray
    ncsnr: np.ndarray
    stimuli: Stimuli

    @classmethod
    def read(cls, folder: Path) -> "World":
        """Read the files of a simulated NSD."""
        layout = DataLayout(folder)
        training = load_training_trials(layout, SUBJECT, "all", folder)
        test = load_test_trials(layout, SUBJECT, "new_test", folder)
        ids = np.unique(test.stimulus_ids)
        rows = np.stack([np.sort(test.beta_rows[test.stimulus_ids == id_]) for id_ in ids])  # (N, R)
        responses = read_betas(layout, SUBJECT, rows.ravel()).reshape(*rows.shape, -1)
        with h5py.File(layout.ncsnr) as file:
            ncsnr = file[f"subj0{SUBJECT}"][:]
        betas = read_betas(layout, SUBJECT, training.beta_rows)
        noise_free = read_noise_free(layout, SUBJECT, ids)
        return cls(training, betas, ids, responses, noise_free, ncsnr, Stimuli(layout.stimuli))

    def images(self, ids: np.ndarray) -> Tensor:
        """Return images `(n, 3, H, W)` float32."""
        return torch.from_numpy(self.stimuli.read(ids)).float()


def in_batches(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a frozen network batch by batch."""
    with torch.inference_mode():
        return torch.cat([function(batch).float() for batch in rows.split(_BATCH_SIZE)])


def measure(world: World, weights: Path) -> dict[str, float]:
    """Return the figure of every line."""
    embedder, vae = bundled.load_embedder(weights), bundled.load_vae(weights)
    training_ids = np.unique(world.trials.stimulus_ids)
    seen, shown = world.images(world.test_ids), world.images(training_ids)
    tokens, targets = in_batches(embedder, seen), in_batches(embedder, shown)  # (N, S, D)
    latents = in_batches(lambda images: vae.encode(2 * images - 1).latent_dist.mode(), shown)  # (n, C, h, w)
    pooled = in_batches(embedder.pooled, seen)

    def two_way(images: Tensor) -> float:
        correlations = correlation_matrix(in_batches(embedder.pooled, images), pooled)
        return float(n_way_per_image(correlations, n=2).mean())

    def decoded(predicted: np.ndarray) -> Tensor:
        rows = torch.from_numpy(predicted).unflatten(1, latents.shape[1:])
        return in_batches(lambda batch: (vae.decode(batch).sample / 2 + 0.5).clamp(0, 1), rows)

    def ridge(target: Tensor) -> list[np.ndarray]:
        """Predict the test images by all repetitions, and by the first."""
        queries = np.concatenate([world.responses.mean(1), world.responses[:, 0]])
        fit = tuned_ridge(world.betas, world.trials.stimulus_ids, target.flatten(1).numpy(), queries, _PENALTIES)
        return np.split(fit.predictions, 2)

    retrieval = []
    for predicted in ridge(targets):
        scores = retrieval_scores(brain=torch.from_numpy(predicted), clip=tokens.flatten(1))
        retrieval.append(next(score.value for score in scores if score.name == "image_retrieval"))
    blurs = [decoded(predicted) for predicted in ridge(latents)]
    pixcorr = [float(pixcorr_per_image(blur, seen, size=None).mean()) for blur in blurs]

    unclip = bundled.load_unclip(weights)
    unclip.sampling = Sampling(**compose_config([]).foundation.sampling)
    drawn = torch.cat(
        [unclip.draw(tokens[ids], [int(id_) for id_ in ids]) for ids in torch.arange(len(tokens)).split(_BATCH_SIZE)]
    )
    correlation, ceiling, by_voxel, voxel_ceiling = brain_correlations(world, shown, seen, embedder)
    shared, overlap = shared_noise(world)
    return {
        "ncsnr": float(np.median(world.ncsnr)),
        "ncsnr_spread": float(np.log(world.ncsnr).std()),
        "shared_noise": shared,
        "overlap": overlap,
        "ridge_image_retrieval": retrieval[0],
        "ridge_latents_pixcorr": pixcorr[0],
        "ridge_latents_two_way": two_way(blurs[0]),
        "true_tokens_two_way": two_way(drawn),
        "one_repetition_pixcorr": pixcorr[1] - pixcorr[0],
        "one_repetition_retrieval": retrieval[1] - retrieval[0],
        "brain_correlation": correlation,
        "of_ceiling": correlation / ceiling,
        "voxel_correlation": by_voxel,
        "voxel_ceiling": voxel_ceiling,
    }


def brain_correlations(
    world: World, shown: Tensor, seen: Tensor, embedder: CLIPImageEmbedder
) -> tuple[float, float, float, float]:
    """Return the true images' brain correlation and that of the noise-free responses; the same across images."""
    features = partial(image_features, embedder)
    ids = np.unique(world.trials.stimulus_ids)
    means = np.stack([world.betas[world.trials.stimulus_ids == id_].mean(0) for id_ in ids])
    encoder = RidgeEncoder.fit(in_batches(features, shown).numpy(), means)
    predicted = torch.from_numpy(encoder.predict(in_batches(features, seen).numpy()))
    measured, noise_free = torch.from_numpy(world.responses.mean(1)), torch.from_numpy(world.noise_free)
    across = [float(brain_correlation_per_image(each, measured).mean()) for each in (predicted, noise_free)]
    by_voxel = float(voxel_correlation_per_voxel(predicted, measured).mean())
    return across[0], across[1], by_voxel, float(noise_ceiling(world.ncsnr, world.responses.shape[1]).mean())


def shared_noise(world: World) -> tuple[float, float]:
    """Return the fraction of the noise variance in shared patterns, and its part in the signal's directions.

    Patterns are principal components of one half of the test trials' residuals, scored on the other half, in which
    independent noise has as little variance in them as in any other direction.
    """
    residuals = world.responses - world.responses.mean(1, keepdims=True)
    residuals = residuals / residuals.std((0, 1))
    halves = residuals[::2].reshape(-1, residuals.shape[-1]), residuals[1::2].reshape(-1, residuals.shape[-1])
    patterns = np.linalg.svd(halves[0], full_matrices=False)[2][:_NUM_PATTERNS]  # (K, V)
    signal = world.noise_free / world.noise_free.std(0)
    axes = np.linalg.svd(signal - signal.mean(0), full_matrices=False)[2][:_NUM_PATTERNS]
    total, width = halves[1].var(0).sum(), residuals.shape[-1]
    variance = (halves[1] @ patterns.T).var(0)
    inside = ((patterns @ axes.T) ** 2).sum(1)
    return float(variance.sum() / total - _NUM_PATTERNS / width), float((variance * inside).sum() / variance.sum())


def summary(figures: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """Return the figures by seed and name of a line as a summary: rows are lines, columns are seeds."""
    names = (*(f"seed_{seed}" for seed in figures), "lowest", "highest")
    rows = {
        line.question: {
            **{f"seed_{seed}": {"value": round(found[line.name], 6)} for seed, found in figures.items()},
            **({"lowest": {"value": line.low}} if line.low > -1 else {}),
            **({"highest": {"value": line.high}} if line.high < 1 else {}),
        }
        for line in LINES
    }
    command = f"python benchmarks/world.py --seeds {' '.join(map(str, figures))}"
    columns = [Column(name.replace("_", " ").capitalize(), name, form="number") for name in names]
    return benchmark_summary("world", command, columns, rows, seeds=list(figures))


def main() -> None:
    """Measure every seed's world, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--weights", type=Path, default=bundled.SHIPPED)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    laptop: SimulationSettings = instantiate(compose_config(["simulation=laptop"]).simulation)
    figures: dict[int, dict[str, float]] = {}
    for seed in arguments.seeds:
        settings = replace(laptop, seed=seed, subjects=(SUBJECT,))
        with TemporaryDirectory() as folder:
            simulate_nsd(settings, Path(folder))
            figures[seed] = measure(World.read(Path(folder)), arguments.weights)
    for line in LINES:
        values = [figures[seed][line.name] for seed in arguments.seeds]
        met = "met" if all(line.low <= value <= line.high for value in values) else "NOT met"
        shown = "  ".join(f"{value:7.3f}" for value in values)
        print(f"{line.question:68s} {shown}   {line.low:g} to {line.high:g}: {met}")
    write_summary(arguments.output, summary(figures))


if __name__ == "__main__":
    main()
