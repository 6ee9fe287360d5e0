"""How good the generator is that was trained on images with captions: on captions that it has not seen.

Legend: N held-out images, E width of an embedding, F features, P side of an image.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.metrics.fid import fid_score
from mindeye_pl.metrics.identification import correlation_matrix
from mindeye_pl.metrics.images import derangement, found_among, identified
from mindeye_pl.metrics.statistics.score import SCORES, Score
from mindeye_pl.nn.clip.embeddings import mean_caption
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, build_generator
from mindeye_pl.steps.foundation.generator import (
    PRETRAIN_GENERATOR,
    caption_embeddings,
    image_embeddings,
    network_sizes,
)
from mindeye_pl.steps.foundation.images import held_out_ids, image_steps, images_of
from mindeye_pl.steps.inputs.frozen_models import identity, load_model
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.weights.loaders import bundled as laptop

#: The lines: what is trained, and what it stands beside.
GENERATOR, RANDOM_LATENTS, UNTRAINED = "generator", "random_latents", "untrained"
COLOUR_NOISE, OTHER_CAPTIONS, TRAINING_IMAGES = "colour_noise", "other_captions", "training_images"

#: In whose words the reference set of FID is named.
REFERENCE = "held_out_images"

_AT_ONCE = 64
_CHOICES = 50

Features = Callable[[Tensor], Tensor]


def _needs(run: Run) -> Sequence[Step]:
    return (*image_steps(run), PRETRAIN_GENERATOR)


def _spec(run: Run) -> ArtifactSpec:
    label = f"{run.config.foundation.name}-seed{run.config.seed}"
    by = run.plain("seed") | identity(run, "embedder", *(["vae"] if run.config.vae is not None else []))
    return ArtifactSpec("evaluate_generator", label, by, run.inputs(EVALUATE_GENERATOR))


def colour_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image's own pixels in random order: its colours are right, and nothing else.

    Shape:
        `(N, 3, P, P)` -> `(N, 3, P, P)`.
    """
    flat = images.flatten(2)
    lots = torch.rand(len(flat), flat.shape[2], generator=generator).argsort(1)
    return flat.gather(2, lots[:, None].expand_as(flat)).view_as(images)


def _networks(run: Run) -> dict[str, Features]:
    """What looks at the images: the CLIP that the generator learned with, and a VAE that it never met."""
    embedder = load_model(run, "embedder").to(run.device)
    networks: dict[str, Features] = {"clip": lambda images: embedder.pooled(images).float()}
    if run.config.vae is not None:
        vae = load_model(run, "vae").to(run.device)

        def coarse_latents(images: Tensor) -> Tensor:
            latents = vae.encode(2 * images - 1).latent_dist.mode()  # (B, C, h, w)
            return F.adaptive_avg_pool2d(latents, 4).flatten(1)

        networks["vae"] = coarse_latents
    return networks


@torch.inference_mode()
def _build(run: Run, folder: Path) -> None:
    ids = held_out_ids(run)
    seen = torch.from_numpy(images_of(run).read(ids)).float()  # (N, 3, P, P)
    sets = _sets(run, ids, seen)
    lines: dict[str, list[Score]] = {name: [] for name in sets}
    for network, features in _networks(run).items():
        of = {name: _in_parts(features, images.to(run.device)).cpu() for name, images in sets.items()}
        reference = _in_parts(features, seen.to(run.device)).cpu()
        for name, rows in of.items():
            lines[name].append(fid_score(rows, reference, network=network, reference=REFERENCE))
            if name != TRAINING_IMAGES:
                lines[name] += _identification(rows, reference, network)
    for name, scores in lines.items():
        console.print(f"  {name}: " + ", ".join(f"{score.name} {score.value:.3f}" for score in scores))
    content = {"reference": REFERENCE, "rows": {name: [s.to_dict() for s in of] for name, of in lines.items()}}
    write_text(folder / SCORES, json.dumps(content, indent=1))


def _sets(run: Run, ids: np.ndarray, seen: Tensor) -> dict[str, Tensor]:
    """Images `(N, 3, P, P)` by line."""
    weights = run.make(PRETRAIN_GENERATOR).folder
    captions = mean_caption(torch.from_numpy(caption_embeddings(run, ids)).float())  # (N, E)
    image = torch.from_numpy(image_embeddings(run)[ids]).float()[:, 0]
    tokens = torch.stack([image, captions], 1)  # (N, 2, E)
    torch.manual_seed(run.config.seed)
    untrained = ImageGenerator(build_generator(network_sizes(run, run.config.foundation.generator)))
    zeros, random = (laptop.load_generator(weights, latents) for latents in ("zeros", "random"))
    lot = derangement(len(ids), run.config.seed)
    draws = torch.Generator().manual_seed(run.config.seed)
    others = np.random.default_rng(run.config.seed).integers(0, ids[0], len(ids))
    made = {GENERATOR: _draw(run, zeros, tokens, ids), RANDOM_LATENTS: _draw(run, random, tokens, ids)}
    return {
        **made,
        OTHER_CAPTIONS: made[GENERATOR][lot],
        UNTRAINED: _draw(run, untrained, tokens, ids),
        COLOUR_NOISE: colour_noise(seen, draws),
        TRAINING_IMAGES: torch.from_numpy(images_of(run).read(others)).float(),
    }


def _draw(run: Run, generator: ImageDecoder, tokens: Tensor, ids: np.ndarray) -> Tensor:
    generator.to(run.device)
    parts = zip(tokens.split(_AT_ONCE), torch.from_numpy(ids).split(_AT_ONCE), strict=True)
    return torch.cat([generator.draw(part.to(run.device), seeds.tolist()).cpu() for part, seeds in parts])


def _in_parts(features: Features, images: Tensor) -> Tensor:
    return torch.cat([features(part) for part in images.split(_AT_ONCE)])


def _identification(made: Tensor, seen: Tensor, network: str) -> list[Score]:
    """Two-way and n-way identification of what was made among the held-out images."""
    correlations, count = correlation_matrix(made, seen), len(seen)
    n = min(_CHOICES, count)
    found = {
        (f"{network}_two_way", 2): identified(correlations),
        (f"{network}_{n}_way", n): found_among(correlations, n=n, top_k=1),
    }
    return [
        Score(name, float(scored.each.mean()), 1 / choices, choices, count, higher_is_better=True)
        for (name, choices), scored in found.items()
    ]


EVALUATE_GENERATOR = Step("evaluate_generator", _spec, _needs, _build)
