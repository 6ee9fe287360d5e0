"""The trained foundation models in one folder, in half precision, with a model card that says how good they are.

Legend: N held-out images.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mindeye_pl.data.simulated.vocabulary import CONTEXT_LENGTH, word_numbers
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.metrics.images import BASIC_METRICS, derangement, score_each, scores_of
from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.sampling import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.steps.foundation.captioner import PRETRAIN_CAPTIONER
from mindeye_pl.steps.foundation.clip import PRETRAIN_CLIP
from mindeye_pl.steps.foundation.images import CAPTIONS, SCENES, held_out_ids, images_of, trains_on_scenes
from mindeye_pl.steps.foundation.unclip import PRETRAIN_UNCLIP
from mindeye_pl.steps.foundation.vae import PRETRAIN_VAE
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.atomic import write_text
from mindeye_pl.version import __version__
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.sized_safetensors import read_own, save_own

CARD, SCORES = "MODEL_CARD.md", "scores.json"

#: Held-out images that the unCLIP is asked to make again.
_SAMPLED = 128
_AT_ONCE = 32


def _needs(run: Run) -> Sequence[Step]:
    return [step for step, _ in _models(run)]


def _models(run: Run) -> list[tuple[Step, str]]:
    """The models and their files; captions need scenes."""
    captioner = [(PRETRAIN_CAPTIONER, laptop.CAPTIONER)] if trains_on_scenes(run) else []
    return [(PRETRAIN_CLIP, laptop.CLIP), (PRETRAIN_VAE, laptop.VAE), *captioner, (PRETRAIN_UNCLIP, laptop.UNCLIP)]


def _spec(run: Run) -> ArtifactSpec:
    label = f"{run.config.foundation.name}-seed{run.config.seed}"
    return ArtifactSpec("evaluate_foundation", label, run.plain("foundation.sampling"), run.inputs(EVALUATE_FOUNDATION))


def _build(run: Run, folder: Path) -> None:
    for step, name in _models(run):
        weights, sizes = read_own(run.make(step).folder / name)
        save_own(folder / name, weights, sizes, half=True)
    scores = held_out_scores(run, folder)
    write_text(folder / SCORES, json.dumps(scores, indent=1))
    write_text(folder / CARD, _card(run, folder, scores))


@torch.inference_mode()
def held_out_scores(run: Run, folder: Path) -> dict[str, dict[str, float]]:
    """Scores of the models in `folder` on images that none of them was trained on."""
    ids = held_out_ids(run)
    seen = torch.from_numpy(images_of(run).read(ids)).float()  # (N, 3, H, W)
    network, embedder = laptop.load_clip(folder)
    unclip = laptop.load_unclip(folder)
    scores = {"vae": _vae_scores(unclip, seen)}
    if trains_on_scenes(run):
        texts = json.loads((run.make(SCENES).folder / CAPTIONS).read_text())
        captions = [texts[id_][0] for id_ in ids]
        scores["clip"] = _clip_scores(network, embedder, seen, captions)
        scores["captioner"] = _captioner_scores(laptop.load_captioner(folder), embedder, seen, captions)
    seen, ids = seen[:_SAMPLED], ids[:_SAMPLED]
    unclip.sampling = Sampling(**run.plain("foundation.sampling")["foundation.sampling"])
    made = torch.cat(
        [
            unclip.draw(embedder(part), seeds.tolist())
            for part, seeds in zip(seen.split(_AT_ONCE), torch.from_numpy(ids).split(_AT_ONCE), strict=True)
        ]
    )
    for name, shown in (("unclip", made), ("unclip, another image", made[derangement(len(made), 0)])):
        values = score_each(shown, seen, features=embedder.pooled, size=None)
        scores[name] = {score.name: score.value for score in scores_of(values, BASIC_METRICS, num_resamples=100)}
    return scores


def _vae_scores(unclip: UnCLIPModel, seen: Tensor) -> dict[str, float]:
    vae = unclip.vae
    again = torch.cat([vae.decode(vae.encode(2 * p - 1).latent_dist.mode()).sample for p in seen.split(_AT_ONCE)])
    return {"l1 of images in [-1, 1]": float((again - (2 * seen - 1)).abs().mean())}


def _clip_scores(network: Any, embedder: Any, seen: Tensor, captions: list[str]) -> dict[str, float]:
    """How often the first of N captions is the image's own; images whose captions are the same both count."""
    images = F.normalize(torch.cat([embedder.pooled(part) for part in seen.split(_AT_ONCE)]), dim=-1)
    texts = F.normalize(network.encode_text(word_numbers(captions)), dim=-1)
    best = (images @ texts.T).argmax(1).tolist()
    hits = [captions[found] == own for found, own in zip(best, captions, strict=True)]
    return {f"caption found among {len(captions)}": float(np.mean(hits))}


def _captioner_scores(captioner: Captioner, embedder: Any, seen: Tensor, captions: list[str]) -> dict[str, float]:
    """Captions from true tokens: how many are right to the last word, and the share of words in their place."""
    said = torch.cat([captioner(embedder(part), max_length=CONTEXT_LENGTH) for part in seen.split(_AT_ONCE)])
    wanted = word_numbers(captions)
    right = said == wanted
    return {
        "captions right": float(right.all(1).float().mean()),
        "words right": float(right[wanted != 0].float().mean()),
    }


def _card(run: Run, folder: Path, scores: dict[str, dict[str, float]]) -> str:
    settings = run.config.foundation
    source = "simulated scenes" if trains_on_scenes(run) else "images of the user's own"
    lines = [f"# The {settings.name} foundation models", ""]
    lines += [
        f"CLIP, VAE, captioner and unCLIP for {settings.images.image_size}-pixel images, in half precision.",
        "",
    ]
    lines += [f"* Data: {settings.images.count:,} {source}, seed {settings.images.seed}; "]
    lines[-1] += f"the last {settings.images.num_validation} held out."
    for step, file in _models(run):
        name = step.name.removeprefix("pretrain_")
        weights, _ = read_own(folder / file)
        count = sum(value.numel() for value in weights.values())
        batches = (settings.images.count - settings.images.num_validation) // settings[name].batch_size
        steps = settings[name].epochs * batches
        lines.append(f"* {file}: {count:,} numbers, {steps:,} steps of {settings[name].batch_size}.")
    lines += [f"* Seed {run.config.seed}, version {__version__}, torch {torch.__version__.split('+')[0]}."]
    lines += ["* Made by `python -m mindeye_pl pipeline=pretrain_foundation`.", "* Licence: MIT.", ""]
    lines += ["Scores on held-out images" + (" (simulated):" if trains_on_scenes(run) else ":"), ""]
    lines += ["| model | score | value |", "| --- | --- | --- |"]
    lines += [f"| {model} | {name} | {value:.3f} |" for model, row in scores.items() for name, value in row.items()]
    lines += [
        "",
        f"The unCLIP is scored on {_SAMPLED} images made from their true tokens; the row of another image is",
    ]
    lines += ["what the same images score against the wrong ones."]
    return "\n".join(lines) + "\n"


EVALUATE_FOUNDATION = Step("evaluate_foundation", _spec, _needs, _build)
