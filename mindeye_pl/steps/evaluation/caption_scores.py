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

from mindeye_pl.metrics.captions.clip_score import PROMPT
from mindeye_pl.metrics.captions.coco_caption import MAX_N
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.scores import (
    PREDICTED_REFERENCE,
    CLIPTowers,
    caption_metrics,
    caption_scores,
    coco_metrics,
)
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
    "meteor": "METEOR (NLTK)",
    "rougeL": "ROUGE-L",
    "rouge1": "ROUGE-1",
    "minilm": "Sentence",
    "clip_text_b32": "CLIP-B",
    "clip_text_l14": "CLIP-L",
    LAPTOP: "CLIP text",
    "word_overlap": "Words",
    "distinct": "Distinct captions",
    **{f"brainhub_bleu{n}": f"BLEU-{n}" for n in range(1, MAX_N + 1)},
    "brainhub_rouge": "ROUGE-L (COCO)",
    "brainhub_cider": "CIDEr",
    **dict.fromkeys(("clip_s", "brainhub_clip_s"), "CLIP-S"),
    **dict.fromkeys(("refclip_s", "brainhub_refclip_s"), "RefCLIP-S"),
}

#: Towers and prompt of BrainHub's CLIP-S; with others it has another name, and no published rows beside it.
_BRAINHUB_CLIP_SCORE = {"image": "clip_b32", "text": "clip_text_b32", "prompt": PROMPT}

#: Questions, by title, of columns that are no similarity of two sentences.
_QUESTIONS = {
    "Distinct captions": "How many different captions are there? Few mean stock captions.",
    "CIDEr": "Which rare n-grams do they share with the references? 0 to 10; tables print it times 100.",
    "CLIP-S": "How well does the caption fit the seen image, by CLIP?",
    "RefCLIP-S": "How well does the caption fit the seen image and a reference, by CLIP?",
}

#: Text that the captions' table is headed by.
NOTE = (
    "Each row compares two captions of an image: from the brain, from its true tokens, or the reference. METEOR is "
    "NLTK's; SPICE and the METEOR of BrainHub's table are Java programs and are not computed."
)

_BATCH_SIZE = 64


@dataclass
class CaptionScores:
    """Scores by comparison, and of captions given to other images; and by metric, what is lacking for it."""

    lines: dict[str, list[Score]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)


def caption_columns(protocol: DictConfig) -> list[TableMetric]:
    """Return the columns of the captions' table."""
    wanted = [*(["meteor"] if protocol.meteor else []), "rougeL", "rouge1", *protocol.text, "word_overlap", "distinct"]
    wanted += list(coco_metrics()) if protocol.coco_captions else []
    wanted += clip_score_names(protocol) if protocol.clip_score is not None else []
    return [_column(name) for name in wanted]


def _column(name: str) -> TableMetric:
    title = TITLES[name]
    question = _QUESTIONS.get(title, f"How alike are the sentences, by {title}? 1 is the same.")
    form = "integer" if name == "distinct" else "number"
    return TableMetric(name, title, question, form, bounded=title not in _QUESTIONS)


def text_towers(protocol: DictConfig) -> list[str]:
    """Return the text towers that a protocol asks for."""
    own = [] if protocol.clip_score is None else [protocol.clip_score.text]
    return list(dict.fromkeys([*protocol.text, *own]))


def clip_score_names(protocol: DictConfig) -> tuple[str, str]:
    """Return the names of CLIP-S and RefCLIP-S by the protocol's towers."""
    prefix = "brainhub_" if dict(protocol.clip_score) == _BRAINHUB_CLIP_SCORE else ""
    return f"{prefix}clip_s", f"{prefix}refclip_s"


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
    towers: CLIPTowers | Lacking | None,
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
        towers: for CLIP-S; None where the protocol asks for no CLIP-S.
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
    if isinstance(towers, Lacking):
        scores.needs |= dict.fromkeys(clip_score_names(protocol), towers.needs)
        towers = None
    metrics = caption_metrics(
        wordnet=wordnet, embedders=usable, several=protocol.several_captions, coco=protocol.coco_captions, towers=towers
    )
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
