"""Scores of the generator that was trained on images with captions, on held-out captions.

Legend: N held-out images, E embedding width, F features, P side of an image.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.image_sources import Images
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.metrics.fid import set_scores
from mindeye_pl.metrics.identification import correlation_matrix
from mindeye_pl.metrics.images import derangement, score_n_way, score_two_way
from mindeye_pl.metrics.statistics.score import COLUMNS, SCORES, Score, score_summary, score_table
from mindeye_pl.nn.clip.embeddings import mean_caption
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, build_generator
from mindeye_pl.steps.foundation.generator import (
    PRETRAIN_GENERATOR,
    caption_embeddings,
    embedding_inputs,
    network_sizes,
)
from mindeye_pl.steps.foundation.images import TrainingImages, embed_tokens, held_out_ids
from mindeye_pl.steps.foundation.training import foundation_label
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json
from mindeye_pl.weights.loaders import bundled

#: The rows: the trained generator and what it is compared with.
GENERATOR, RANDOM_LATENTS, UNTRAINED = "generator", "random_latents", "untrained"
COLOUR_NOISE, OTHER_CAPTIONS, TRAINING_IMAGES = "colour_noise", "other_captions", "training_images"

#: Name of FID's reference set.
REFERENCE = "held_out_images"

_BATCH_SIZE = 64
_CHOICES = 50

Features = Callable[[Tensor], Tensor]


class EvaluateGenerator(Step):
    """Scores generated images by FID and identification."""

    name = "evaluate_generator"
    title = "Evaluation of the generator"
    keys = ("seed", "foundation.images.num_validation")
    runtime_keys = ("foundation.generator",)
    artifact_type = SCORES_TYPE

    def label(self, config: DictConfig) -> str:
        """Return the foundation and the seed."""
        return foundation_label(config)

    def check(self, config: DictConfig) -> None:
        """Check the settings of the training, which names the same models."""
        PRETRAIN_GENERATOR.check(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return images, embeddings, the trained generator, and a VAE where one is configured."""
        vae = {} if config.get("vae") is None else {"vae": Frozen("vae")}
        generator = Made(PRETRAIN_GENERATOR)
        return {"images": TrainingImages(), **embedding_inputs(), "generator": generator, **vae}

    @torch.inference_mode()
    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Score every row."""
        images, device = inputs["images"], inputs["embedder"].device
        ids = held_out_ids(images, settings.foundation.images.num_validation)
        seen = torch.from_numpy(images.read(ids)).float()  # (N, 3, P, P)
        sets = _sets(settings, inputs, ids, seen)
        rows: dict[str, list[Score]] = {name: [] for name in sets}
        for network, features in _networks(inputs).items():
            of = {name: _in_batches(features, shown.to(device)).cpu() for name, shown in sets.items()}
            reference = _in_batches(features, seen.to(device)).cpu()
            for name, found in of.items():
                if name != OTHER_CAPTIONS:  # the generator's images in another order
                    names = f"fid_{network}_to_{REFERENCE}", f"kid_{network}_to_{REFERENCE}"
                    rows[name] += set_scores(found, reference, names, paired=name != TRAINING_IMAGES)
                if name != TRAINING_IMAGES:
                    rows[name] += _identification(found, reference, network)
        for name, scores in rows.items():
            console.print(f"  {name}: " + ", ".join(f"{score.name} {score.value:.3f}" for score in scores))
        content = {"reference": REFERENCE, "rows": {name: [s.to_dict() for s in of] for name, of in rows.items()}}
        write_json(work.folder / SCORES, content)

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the scores."""
        rows = read_json(artifact.folder / SCORES)["rows"]
        record.summarise(score_summary(rows[GENERATOR]))
        kinds = {row: "null" for row in rows if row not in (GENERATOR, RANDOM_LATENTS)} | {TRAINING_IMAGES: "ceiling"}
        record.log_table("generator", COLUMNS, score_table(rows, kinds))


EVALUATE_GENERATOR = EvaluateGenerator()


def colour_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the pixels of each image `(N, 3, P, P)` in random order: its colours are right, and nothing else."""
    flat = images.flatten(2)
    order = torch.rand(len(flat), flat.shape[2], generator=generator).argsort(1)
    return flat.gather(2, order[:, None].expand_as(flat)).view_as(images)


def _networks(inputs: Inputs) -> dict[str, Features]:
    """Return the feature networks: the CLIP that the generator learned with, and a VAE that it never met."""
    device = inputs["embedder"].device
    embedder = inputs["embedder"].load().to(device)
    networks: dict[str, Features] = {"clip": lambda images: embedder.pooled(images).float()}
    if "vae" in inputs:
        vae = inputs["vae"].load().to(device)

        def coarse_latents(images: Tensor) -> Tensor:
            latents = vae.encode(2 * images - 1).latent_dist.mode()  # (B, C, h, w)
            return F.adaptive_avg_pool2d(latents, 4).flatten(1)

        networks["vae"] = coarse_latents
    return networks


def _sets(settings: Settings, inputs: Inputs, ids: np.ndarray, seen: Tensor) -> dict[str, Tensor]:
    """Return images `(N, 3, P, P)` by row."""
    images: Images = inputs["images"]
    weights: Path = inputs["generator"]
    embedder, seed = inputs["embedder"], settings.seed
    rows = embed_tokens(embedder, images, inputs["embeddings"])
    embedded = caption_embeddings(inputs["captions"], ids, rows, inputs["text_embedder"])
    captions = mean_caption(torch.from_numpy(embedded).float())  # (N, E)
    image = torch.from_numpy(rows[ids]).float()[:, 0]
    tokens = torch.stack([image, captions], 1)  # (N, 2, E)
    width, own = embedder.settings.token_dim, settings.foundation.generator
    torch.manual_seed(seed)
    untrained = ImageGenerator(build_generator(network_sizes(own, image_size=images.image_size, width=width)))
    zeros, random = (bundled.load_generator(weights, latents) for latents in ("zeros", "random"))
    others = np.random.default_rng(seed).integers(0, ids[0], len(ids))

    def draw(generator: ImageDecoder) -> Tensor:
        generator.to(embedder.device)
        parts = zip(tokens.split(_BATCH_SIZE), torch.from_numpy(ids).split(_BATCH_SIZE), strict=True)
        return torch.cat([generator.draw(part.to(embedder.device), seeds.tolist()).cpu() for part, seeds in parts])

    made = {GENERATOR: draw(zeros), RANDOM_LATENTS: draw(random)}
    return {
        **made,
        OTHER_CAPTIONS: made[GENERATOR][derangement(len(ids), seed)],
        UNTRAINED: draw(untrained),
        COLOUR_NOISE: colour_noise(seen, torch.Generator().manual_seed(seed)),
        TRAINING_IMAGES: torch.from_numpy(images.read(others)).float(),
    }


def _in_batches(features: Features, images: Tensor) -> Tensor:
    return torch.cat([features(part) for part in images.split(_BATCH_SIZE)])


def _identification(made: Tensor, seen: Tensor, network: str) -> list[Score]:
    """Return two-way and n-way identification of generated images among the held-out ones."""
    correlations, count = correlation_matrix(made, seen), len(seen)
    n = min(_CHOICES, count)
    found = {
        (f"{network}_two_way", 2): score_two_way(correlations),
        (f"{network}_{n}_way", n): score_n_way(correlations, n=n, top_k=1),
    }
    return [
        Score(name, float(scored.each.mean()), 1 / choices, choices, count, higher_is_better=True)
        for (name, choices), scored in found.items()
    ]
