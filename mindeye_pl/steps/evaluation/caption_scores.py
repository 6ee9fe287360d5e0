"""Scores of the captions that were read from brains, in the published comparisons and beside those of other images.

Legend: n test images.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.scores import PREDICTED_REFERENCE, caption_metrics, caption_scores
from mindeye_pl.metrics.captions.similarity import TextEmbedder
from mindeye_pl.metrics.images import TableMetric, derangement
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.steps.evaluation.optional import LAPTOP, Lacking
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.steps.inputs.targets import ImageTargets

#: The line of predicted captions given to other images.
SHUFFLED = "shuffled"

#: Titles of the columns, in the order of the published table.
TITLES = {
    "meteor": "METEOR",
    "rougeL": "ROUGE-L",
    "rouge1": "ROUGE-1",
    "minilm": "Sentence",
    "clip_text_b32": "CLIP-B",
    "clip_text_l14": "CLIP-L",
    LAPTOP: "CLIP text",
    "word_overlap": "Words",
}

_BATCH_SIZE = 64


@dataclass
class CaptionScores:
    """Scores by comparison, and of captions given to other images; and by metric, what is lacking for it."""

    lines: dict[str, list[Score]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)


def caption_columns(protocol: DictConfig) -> list[TableMetric]:
    """Return the columns of the captions' table."""
    wanted = [*(["meteor"] if protocol.meteor else []), "rougeL", "rouge1", *protocol.text]
    return [
        TableMetric(name, TITLES[name], f"How alike are the sentences, by {TITLES[name]}? 1 is the same.")
        for name in (*wanted, "word_overlap")
    ]


@dataclass(frozen=True)
class CaptionReference:
    """Captions that predicted ones are compared with: a file, and captions of the true images' own tokens."""

    path: Path | None  # None where the data have no captions
    expected_at: Path
    of_true_images: list[str] | None  # None without a captioner


def score_captions(
    predicted: list[str],
    stimulus_ids: np.ndarray,
    reference: CaptionReference,
    embedders: Mapping[str, TextEmbedder | Lacking],
    wordnet: Any,
    protocol: DictConfig,
    *,
    num_resamples: int,
    seed: int,
) -> CaptionScores:
    """Score n captions from brains, as far as there are references and files.

    Args:
        predicted: captions.
        stimulus_ids: `(n,)` of the seen images.
        reference: captions to compare with.
        embedders: of text, by name.
        wordnet: for METEOR; None where the protocol asks for no METEOR.
        protocol: node of the configuration.
        num_resamples: of the bootstrap intervals.
        seed: of the resampling and the derangement.
    """
    if reference.path is None:
        file = reference.expected_at
        needs = f"needs {file.name} in {file.parent}, a list over images of their captions (docs/data.md)"
        return CaptionScores(needs={column.name: needs for column in caption_columns(protocol)})
    every = json.loads(reference.path.read_bytes())
    references: list[Reference] = [every[id_] or [""] for id_ in stimulus_ids.tolist()]
    scores, usable = CaptionScores(), {}
    for name, embedder in embedders.items():
        if isinstance(embedder, Lacking):
            scores.needs[name] = embedder.needs
        else:
            usable[name] = embedder
    if isinstance(wordnet, Lacking):
        scores.needs["meteor"], wordnet = wordnet.needs, None
    metrics = caption_metrics(wordnet=wordnet, embedders=usable, several=protocol.several_captions)
    how: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    scores.lines = caption_scores(predicted, reference.of_true_images, references, metrics, **how)
    others = derangement(len(predicted), seed).tolist()
    shuffled = caption_scores([predicted[i] for i in others], None, references, metrics, **how)
    scores.lines[SHUFFLED] = shuffled[PREDICTED_REFERENCE]
    return scores


def captions_of_true_images(captioner: FrozenModel, targets: ImageTargets, stimulus_ids: np.ndarray) -> list[str]:
    """Return the captions of the images' own tokens."""
    model = captioner.load()
    tokens = torch.from_numpy(targets.tokens(stimulus_ids)[stimulus_ids]).float()
    with torch.inference_mode():
        words = [model(part, max_length=captioner.settings.max_length) for part in tokens.split(_BATCH_SIZE)]
    return model.text(torch.cat(words))
