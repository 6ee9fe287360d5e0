"""Scores of the captions that were read from brains, in the published comparisons and beside those of other images.

Legend: n test images.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindeye_pl.data.simulated.vocabulary import tokenize_captions
from mindeye_pl.engine.step import Run
from mindeye_pl.metrics.captions.meteor import missing_wordnet_message, read_wordnet
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.scores import PREDICTED_REFERENCE, caption_metrics, caption_scores
from mindeye_pl.metrics.captions.similarity import TextEmbedder
from mindeye_pl.metrics.images import TableMetric, derangement
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.steps.inputs.frozen_models import is_there, load_model
from mindeye_pl.steps.inputs.simulate import layout
from mindeye_pl.steps.inputs.targets import target_tokens
from mindeye_pl.weights.loaders.bundled import load_text_embedder
from mindeye_pl.weights.loaders.text_embedders import load_clip_text, load_sentence_embedder
from mindeye_pl.weights.locate import find_weights, needed

#: The line of predicted captions given to other images.
SHUFFLED = "shuffled"

LAPTOP = "laptop_text"
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

_AT_ONCE = 64


@dataclass
class CaptionScores:
    """What was scored.

    Attributes:
        lines: by comparison, and of captions given to other images.
        needs: by metric, what is lacking.
    """

    lines: dict[str, list[Score]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)


def caption_columns(run: Run) -> list[TableMetric]:
    """The columns of the captions' table."""
    wanted = [*(["meteor"] if run.config.protocol.meteor else []), "rougeL", "rouge1", *run.config.protocol.text]
    return [
        TableMetric(name, TITLES[name], f"How alike are the sentences, by {TITLES[name]}? 1 is the same.")
        for name in (*wanted, "word_overlap")
    ]


def score_captions(run: Run, predicted: list[str], stimulus_ids: np.ndarray) -> CaptionScores:
    """Scores of captions, as far as there are references and files.

    Args:
        run: its `protocol` names the metrics.
        predicted: n captions from brains.
        stimulus_ids: `(n,)` of the seen images.
    """
    path = layout(run).captions
    if not path.exists():
        lacks = f"{path.name} in {path.parent}, a list over images of their captions (docs/data.md)"
        return CaptionScores(needs={column.name: f"needs {lacks}" for column in caption_columns(run)})
    references = _references(path, stimulus_ids)
    scores, embedders = CaptionScores(), {}
    for name in run.config.protocol.text:
        if missing := lacking_text(run, name):
            scores.needs[name] = missing
        else:
            embedders[name] = _text_embedder(run, name)
    wordnet = None
    if run.config.protocol.meteor:
        if no_wordnet := missing_wordnet_message():
            scores.needs["meteor"] = no_wordnet
        else:
            wordnet = read_wordnet()
    metrics = caption_metrics(wordnet=wordnet, embedders=embedders, several=run.config.protocol.several_captions)
    how: dict[str, Any] = {"num_resamples": run.config.metrics.bootstrap_resamples, "seed": run.config.seed}
    true = captions_of_true_images(run, stimulus_ids)
    scores.lines = caption_scores(predicted, true, references, metrics, **how)
    lot = derangement(len(predicted), run.config.seed).tolist()
    scores.lines[SHUFFLED] = caption_scores([predicted[i] for i in lot], None, references, metrics, **how)[
        PREDICTED_REFERENCE
    ]
    return scores


def _references(path: Path, stimulus_ids: np.ndarray) -> list[Reference]:
    every = json.loads(path.read_text())
    return [every[id_] for id_ in stimulus_ids.tolist()]


def captions_of_true_images(run: Run, stimulus_ids: np.ndarray) -> list[str] | None:
    """What the run's captioner says of the images' own tokens; None where there is no captioner, or not its file."""
    if not is_there(run, "captioner"):
        return None
    captioner = load_model(run, "captioner")
    tokens = torch.from_numpy(target_tokens(run, stimulus_ids)[stimulus_ids]).float()
    with torch.inference_mode():
        words = [captioner(part, max_length=run.config.captioner.max_length) for part in tokens.split(_AT_ONCE)]
    return captioner.text(torch.cat(words))


def lacking_text(run: Run, name: str) -> str | None:
    """What is missing for a text embedder of a protocol; None where it is all there."""
    if name == LAPTOP:
        return None
    return None if _text_file(run, name) else needed(run.config.weights[name])


def _text_file(run: Run, name: str) -> Path | None:
    return find_weights(run.config.weights[name], run.weights_folder)


def _text_embedder(run: Run, name: str) -> TextEmbedder:
    if name == LAPTOP:
        return load_text_embedder(run.config.foundation.folder, tokenize_captions=tokenize_captions)
    path, repository = _text_file(run, name), run.config.weights[name].repository
    assert path is not None, name
    load = load_sentence_embedder if name == "minilm" else load_clip_text
    return load(path, repository=repository)
