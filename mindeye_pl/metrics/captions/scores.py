"""The three published comparisons of captions, with intervals (MindEye2, spec section 10; BrainHub).

Predicted captions are compared with the references, and with the captioner's captions of the true images. The latter,
compared with the references, are the ceiling: the score of a decoder that recovers the image perfectly.

Legend: N images, E embedding width, R resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from mindeye_pl.metrics.captions.clip_score import PROMPT, clip_score_per_image, ref_clip_score_per_image
from mindeye_pl.metrics.captions.coco_caption import (
    MAX_N,
    CorpusScore,
    bleu,
    cider_per_image,
    distinct_captions,
    rouge_coco_per_image,
)
from mindeye_pl.metrics.captions.meteor import WordNet, meteor_per_image
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.similarity import (
    CachedEmbedder,
    TextEmbedder,
    rouge_per_image,
    text_similarity_per_image,
    word_overlap_per_image,
)
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval
from mindeye_pl.metrics.statistics.score import Interval, Score

PREDICTED_REFERENCE, PREDICTED_IMAGE, CEILING = "predicted_reference", "predicted_true_image", "ceiling"
#: Predicted caption against the caption of the true image, as a fraction of the ceiling.
RELATIVE = "relative"

#: Predicted captions and references of N images to `(N,)` float64, or to one score of the set; higher is better.
CaptionMetric = Callable[[Sequence[str], Sequence[Reference]], Tensor | CorpusScore]


@dataclass(frozen=True)
class CLIPTowers:
    """The seen images and the text tower of one CLIP.

    Attributes:
        image_embeddings: `(N, E)` of the seen images.
        embedder: the text tower.
        prompt: text in front of every caption.
        names: of the two scores.
    """

    image_embeddings: Tensor
    embedder: TextEmbedder
    prompt: str = PROMPT
    names: tuple[str, str] = ("clip_s", "refclip_s")

    @property
    def metrics(self) -> dict[str, CaptionMetric]:
        """Return CLIP-S and RefCLIP-S by their names."""
        how: dict[str, Any] = {
            "image_embeddings": self.image_embeddings,
            "embedder": CachedEmbedder(self.embedder),
            "prompt": self.prompt,
        }
        functions = clip_score_per_image, ref_clip_score_per_image
        return {name: partial(function, **how) for name, function in zip(self.names, functions, strict=True)}


def coco_metrics() -> dict[str, CaptionMetric]:
    """Return the scores of BrainHub's table that need no network and no Java, by their names in published tables."""
    found: dict[str, CaptionMetric] = {f"brainhub_bleu{n}": partial(bleu, n=n) for n in range(1, MAX_N + 1)}
    return found | {"brainhub_rouge": rouge_coco_per_image, "brainhub_cider": cider_per_image}


def caption_metrics(
    *,
    wordnet: WordNet | None = None,
    embedders: Mapping[str, TextEmbedder] | None = None,
    several: str = "best",
    coco: bool = False,
    towers: CLIPTowers | None = None,
) -> dict[str, CaptionMetric]:
    """Return the available metrics in the order of the published table.

    They are `meteor`, left out without a wordnet, `rougeL`, `rouge1`, the metrics of `embedders` by their names,
    `word_overlap`, `distinct`, those of `coco_metrics` if `coco`, and those of `towers`. `several`
    is one of `pairs.SEVERAL`; the metrics of BrainHub's table use all references.
    """
    found: dict[str, CaptionMetric] = {}
    if wordnet is not None:
        found["meteor"] = partial(meteor_per_image, wordnet=wordnet, several=several)
    for kind in ("rougeL", "rouge1"):
        found[kind] = partial(rouge_per_image, kind=kind, several=several)
    for name, embedder in (embedders or {}).items():
        found[name] = partial(text_similarity_per_image, embedder=CachedEmbedder(embedder), several=several)
    found["word_overlap"] = partial(word_overlap_per_image, several=several)
    found["distinct"] = distinct_captions
    return found | (coco_metrics() if coco else {}) | (towers.metrics if towers is not None else {})


def caption_scores(
    predicted: Sequence[str],
    from_true_image: Sequence[str] | None,
    references: Sequence[Reference],
    metrics: Mapping[str, CaptionMetric],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, list[Score]]:
    """Return means over images with 95 % intervals, by pair.

    The pairs are `PREDICTED_REFERENCE` and, where the captioner's captions `from_true_image` are given,
    `PREDICTED_IMAGE`, `CEILING`, and `RELATIVE`: the ratio of the second mean to the third, NaN if that is not above 0,
    of the metrics that are means over images.
    Chance is no single number for any of the metrics; use the predicted captions of other images as null rows.

    Raises:
        UserError: if a caption is not a string or has no counterpart.
    """
    pairs: dict[str, tuple[Sequence[str], Sequence[Reference]]] = {PREDICTED_REFERENCE: (predicted, references)}
    if from_true_image is not None:
        pairs |= {PREDICTED_IMAGE: (predicted, from_true_image), CEILING: (from_true_image, references)}
    values = {pair: {name: metric(*compared) for name, metric in metrics.items()} for pair, compared in pairs.items()}

    def score(name: str, found: Tensor | CorpusScore) -> Score:
        if isinstance(found, CorpusScore):
            interval = _resampled_interval(found, len(predicted), num_resamples, seed)
            return _score(name, found.value, len(predicted), interval)
        each = found.cpu().numpy()
        interval = bootstrap_interval(each, num_resamples=num_resamples, seed=seed)
        return _score(name, each.mean(), len(each), interval)

    scores = {pair: [score(name, found) for name, found in by_name.items()] for pair, by_name in values.items()}
    if from_true_image is not None:
        both = zip(metrics, values[PREDICTED_IMAGE].values(), values[CEILING].values(), strict=True)
        scores[RELATIVE] = [
            _relative(name, found.cpu().numpy(), ceiling.cpu().numpy(), num_resamples, seed)
            for name, found, ceiling in both
            if isinstance(found, Tensor) and isinstance(ceiling, Tensor)
        ]
    return scores


def _resampled_interval(found: CorpusScore, num_images: int, num_resamples: int, seed: int) -> Interval | None:
    """Return the interval of a set's score from resamples of its images; None for a score without resamples."""
    if found.resampled is None:
        return None
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_resamples)  # (R, N)
    low, high = np.percentile(found.resampled(weights.astype(np.float64)), [2.5, 97.5]).tolist()
    return low, high


def _score(name: str, value: float, num_images: int, interval: Interval | None) -> Score:
    return Score(name, float(value), chance=None, pool_size=None, num_images=num_images, interval=interval)


def _relative(name: str, values: np.ndarray, ceiling: np.ndarray, num_resamples: int, seed: int) -> Score:
    """Return a ratio of means, with an interval from joint resamples of the images."""
    if ceiling.mean() <= 0:
        return _score(name, np.nan, len(values), None)
    drawn = np.random.default_rng(seed).integers(len(values), size=(num_resamples, len(values)))
    above, below = values[drawn].mean(1), ceiling[drawn].mean(1)
    low, high = np.percentile(above[below > 0] / below[below > 0], [2.5, 97.5]).tolist()
    return _score(name, values.mean() / ceiling.mean(), len(values), (low, high))
