"""The trained foundation models in one folder, in half precision, with a model card of their scores.

Legend: N held-out images.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, tokenize_captions
from mindeye_pl.engine.records import Record
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import SCORES as SCORES_TYPE
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.metrics.images import BASIC_METRICS, derangement, score_each, summarise_scores
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.steps.foundation.images import SCENES, TrainingImages, held_out_ids, scene_captions
from mindeye_pl.steps.foundation.laptop import PRETRAIN_CAPTIONER, PRETRAIN_CLIP, PRETRAIN_VAE
from mindeye_pl.steps.foundation.training import FoundationTraining, foundation_label
from mindeye_pl.steps.foundation.unclip import PRETRAIN_UNCLIP
from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.store.atomic import write_json, write_text
from mindeye_pl.store.own_files import read_json
from mindeye_pl.version import __version__
from mindeye_pl.weights.files import read_own, save_own
from mindeye_pl.weights.loaders import bundled

CARD, SCORES = "MODEL_CARD.md", "scores.json"

#: Files of the models and the steps that train them.
_MODELS: Mapping[str, FoundationTraining] = {
    bundled.CLIP: PRETRAIN_CLIP,
    bundled.VAE: PRETRAIN_VAE,
    bundled.CAPTIONER: PRETRAIN_CAPTIONER,
    bundled.UNCLIP: PRETRAIN_UNCLIP,
}

#: Held-out images that the unCLIP reconstructs from their true tokens.
_NUM_SAMPLED = 128
_BATCH_SIZE = 32

Scores = dict[str, dict[str, float]]


class EvaluateFoundation(Step):
    """Puts the models into one folder and scores them on scenes that none was trained on."""

    name = "evaluate_foundation"
    title = "Evaluation of the foundation models"
    keys = ("seed", "foundation.sampling", "foundation.images.num_validation")
    runtime_keys = ("foundation",)
    artifact_type = SCORES_TYPE

    def label(self, config: DictConfig) -> str:
        """Return the foundation and the seed."""
        return foundation_label(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the scenes and the trained models."""
        models = {step.model: Made(step) for step in _MODELS.values()}
        return {"images": TrainingImages(), "scenes": Made(SCENES), **models}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write weights, scores and model card."""
        for file, step in _MODELS.items():
            weights, sizes = read_own(inputs[step.model] / file)
            save_own(work.folder / file, weights, sizes, half=True)
        foundation, images = settings.foundation, inputs["images"]
        ids = held_out_ids(images, foundation.images.num_validation)
        seen = torch.from_numpy(images.read(ids)).float()  # (N, 3, H, W)
        texts = scene_captions(inputs["scenes"])
        sampling = Sampling(**{str(key): value for key, value in foundation.sampling.items()})
        scores = held_out_scores(work.folder, ids, seen, [texts[id_] for id_ in ids], sampling)
        write_json(work.folder / SCORES, scores)
        write_text(work.folder / CARD, _card(work.folder, foundation, settings.seed, scores))

    def record(self, inputs: Inputs, artifact: Artifact, record: Record, num_images: int) -> None:
        """Log the scores."""
        content: Scores = read_json(artifact.folder / SCORES)
        found = [(model, name, value) for model, scores in content.items() for name, value in scores.items()]
        record.summarise({f"score/{_slug(model)}/{_slug(name)}": value for model, name, value in found})
        record.log_table("foundation", ("model", "score", "value"), found)


EVALUATE_FOUNDATION = EvaluateFoundation()


@torch.inference_mode()
def held_out_scores(
    folder: Path, ids: np.ndarray, seen: Tensor, captions: Sequence[Sequence[str]], sampling: Sampling
) -> Scores:
    """Return scores by model and name, on held-out scenes.

    Args:
        folder: of the models.
        ids: `(N,)` of the scenes.
        seen: `(N, 3, H, W)` in [0, 1].
        captions: of each scene, the full one first, the one that names the objects last.
        sampling: of the unCLIP.
    """
    network, embedder = bundled.load_clip(folder)
    unclip = bundled.load_unclip(folder)
    unclip.sampling = sampling
    full, names = [each[0] for each in captions], [each[-1] for each in captions]
    scores = {
        "vae": _vae_scores(unclip, seen),
        "clip": _clip_scores(network, embedder, seen, names),
        "captioner": _captioner_scores(bundled.load_captioner(folder), embedder, seen, full),
    }
    seen, ids = seen[:_NUM_SAMPLED], ids[:_NUM_SAMPLED]
    batches = zip(seen.split(_BATCH_SIZE), torch.from_numpy(ids).split(_BATCH_SIZE), strict=True)
    made = torch.cat([unclip.draw(embedder(part), seeds.tolist()) for part, seeds in batches])
    for name, shown in (("unclip", made), ("unclip, another image", made[derangement(len(made), 0)])):
        values = score_each(shown, seen, features=embedder.pooled, size=None)
        scores[name] = {score.name: score.value for score in summarise_scores(values, BASIC_METRICS, num_resamples=100)}
    return scores


def _vae_scores(unclip: UnCLIPModel, seen: Tensor) -> dict[str, float]:
    vae = unclip.vae
    again = torch.cat([vae.decode(vae.encode(2 * p - 1).latent_dist.mode()).sample for p in seen.split(_BATCH_SIZE)])
    return {"l1 of images in [-1, 1]": float((again - (2 * seen - 1)).abs().mean())}


def _clip_scores(network: Any, embedder: Any, seen: Tensor, captions: list[str]) -> dict[str, float]:
    """Return how often the nearest of N captions is the image's own, or equal to it."""
    images = F.normalize(torch.cat([embedder.pooled(part) for part in seen.split(_BATCH_SIZE)]), dim=-1)
    texts = F.normalize(network.encode_text(tokenize_captions(captions)), dim=-1)
    best = (images @ texts.T).argmax(1).tolist()
    hits = [captions[found] == own for found, own in zip(best, captions, strict=True)]
    return {f"caption found among {len(captions)}": float(np.mean(hits))}


def _captioner_scores(captioner: Captioner, embedder: Any, seen: Tensor, captions: list[str]) -> dict[str, float]:
    """Return the fractions of exact captions, and of words in their position, from true tokens."""
    said = torch.cat([captioner(embedder(part), max_length=CONTEXT_LENGTH) for part in seen.split(_BATCH_SIZE)])
    wanted = tokenize_captions(captions)
    right = said == wanted
    return {
        "captions right": float(right.all(1).float().mean()),
        "words right": float(right[wanted != 0].float().mean()),
    }


def _card(folder: Path, foundation: DictConfig, seed: int, scores: Scores) -> str:
    images = foundation.images
    lines = [
        f"# The {foundation.name} foundation models",
        "",
        f"CLIP, VAE, captioner and unCLIP for {images.image_size}-pixel images, in half precision.",
        "",
        f"* Data: {images.count:,} simulated scenes, seed {images.seed}; the last {images.num_validation} held out.",
    ]
    for file, step in _MODELS.items():
        weights, own = read_own(folder / file)[0], foundation[step.model]
        count = sum(value.numel() for value in weights.values())
        steps = own.epochs * ((images.count - images.num_validation) // own.batch_size)
        after = " after those of an earlier file" if own.get("start") == "trained" else ""
        lines.append(f"* {file}: {count:,} numbers, {steps:,} steps of {own.batch_size}{after}.")
    rows = [f"| {model} | {name} | {value:.3f} |" for model, row in scores.items() for name, value in row.items()]
    lines += [
        f"* Seed {seed}, version {__version__}, torch {torch.__version__.split('+')[0]}.",
        f"* Made by `python -m mindeye_pl pipeline=pretrain_foundation foundation={foundation.name}`.",
        "* Licence: MIT.",
        "",
        "Scores on held-out images (simulated):",
        "",
        "| model | score | value |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"The unCLIP is scored on {_NUM_SAMPLED} images made from their true tokens; the row of another image is",
        "what the same images score against the wrong ones.",
    ]
    return "\n".join(lines) + "\n"


def _slug(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_")
