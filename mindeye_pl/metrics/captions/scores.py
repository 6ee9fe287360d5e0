"""The three published comparisons of captions, each beside its interval (MindEye2, spec section 10).

Predicted captions stand beside the references, and beside what the captioner says of the true image. What it says of
the true image, beside the references, is the ceiling: the score of a decoder that reads all of the image.

Legend: N images.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from mindeye_pl.metrics.captions import similarity as captions
from mindeye_pl.metrics.captions.meteor import WordNet, meteor_of_each
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.similarity import Remembering, TextEmbedder
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval
from mindeye_pl.metrics.statistics.score import Interval, Score

PREDICTED_REFERENCE, PREDICTED_IMAGE, CEILING = "predicted_reference", "predicted_true_image", "ceiling"
#: Predicted beside the caption of the true image, as a share of the ceiling.
RELATIVE = "relative"

#: The names of the published table.
PUBLISHED_PAIRS = {
    PREDICTED_REFERENCE: "brain_ref",
    PREDICTED_IMAGE: "brain_img",
    CEILING: "img_ref",
    RELATIVE: "relative",
}

#: Predicted captions and references of N images to `(N,)` float64; higher is better.
CaptionMetric = Callable[[Sequence[str], Sequence[Reference]], Tensor]


def caption_metrics(
    *,
    wordnet: WordNet | None = None,
    embedders: Mapping[str, TextEmbedder] | None = None,
    several: str = "best",
    synonyms: str = "published",
) -> dict[str, CaptionMetric]:
    """The metrics that can be computed with what is here, by name, in the order of the published table.

    Args:
        wordnet: of METEOR, which is left out where None.
        embedders: by the name of their score, `minilm` for instance; each reads a sentence only once.
        several: one of `caption_pairs.SEVERAL`.
        synonyms: "published" or "corrected", of METEOR.

    Returns:
        `meteor`, `rougeL`, `rouge1`, those of `embedders`, `word_overlap`.
    """
    found: dict[str, CaptionMetric] = {}
    if wordnet is not None:
        found["meteor"] = partial(meteor_of_each, wordnet=wordnet, several=several, synonyms=synonyms)
    for kind in ("rougeL", "rouge1"):
        found[kind] = partial(captions.rouge_of_each, kind=kind, several=several)
    for name, embedder in (embedders or {}).items():
        remembering = Remembering(embedder)
        found[name] = partial(captions.text_similarity_of_each, embedder=remembering, several=several)
    found["word_overlap"] = partial(captions.word_overlap_of_each, several=several)
    return found


def caption_values(
    predicted: Sequence[str],
    from_true_image: Sequence[str] | None,
    references: Sequence[Reference],
    metrics: Mapping[str, CaptionMetric],
) -> dict[str, dict[str, np.ndarray]]:
    """Scores of each image, `(N,)` float64 by pair and metric, for intervals and paired tests.

    Args:
        predicted: captions from brains.
        from_true_image: the captioner's, of the true images; None leaves the first pair alone.
        references: captions by people, one or several of each image.
        metrics: as of `caption_metrics`.

    Raises:
        UserError: naming a caption that is no text or has no counterpart.
    """
    pairs: dict[str, tuple[Sequence[str], Sequence[Reference]]] = {PREDICTED_REFERENCE: (predicted, references)}
    if from_true_image is not None:
        pairs |= {PREDICTED_IMAGE: (predicted, from_true_image), CEILING: (from_true_image, references)}
    return {
        pair: {name: metric(*compared).cpu().numpy() for name, metric in metrics.items()}
        for pair, compared in pairs.items()
    }


def caption_scores(
    predicted: Sequence[str],
    from_true_image: Sequence[str] | None,
    references: Sequence[Reference],
    metrics: Mapping[str, CaptionMetric],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, list[Score]]:
    """Means over images with their 95 % intervals, by pair.

    No metric has a chance level that is one number; the predicted captions of other images, scored the same way,
    stand for it.

    Args:
        predicted: see `caption_values`, as the three that follow.
        from_true_image: see there.
        references: see there.
        metrics: see there.
        num_resamples: of the bootstrap.
        seed: of its draws.

    Returns:
        One score for each metric under `PREDICTED_REFERENCE`, `PREDICTED_IMAGE`, `CEILING`, and `RELATIVE`, the ratio
        of the second mean to the third, NaN where the third is not above 0.

    Raises:
        UserError: see `caption_values`.
    """
    values = caption_values(predicted, from_true_image, references, metrics)
    scores = {
        pair: [
            _score(name, each.mean(), len(each), bootstrap_interval(each, num_resamples=num_resamples, seed=seed))
            for name, each in by_name.items()
        ]
        for pair, by_name in values.items()
    }
    if CEILING in values:
        scores[RELATIVE] = [
            _relative(name, values[PREDICTED_IMAGE][name], ceiling, num_resamples, seed)
            for name, ceiling in values[CEILING].items()
        ]
    return scores


def _score(name: str, value: float, num_images: int, interval: Interval | None) -> Score:
    return Score(name, float(value), chance=None, pool_size=None, num_images=num_images, interval=interval)


def _relative(name: str, share: np.ndarray, ceiling: np.ndarray, num_resamples: int, seed: int) -> Score:
    """A ratio of means, whose interval draws images for both at once."""
    if ceiling.mean() <= 0:
        return _score(name, np.nan, len(share), None)
    drawn = np.random.default_rng(seed).integers(len(share), size=(num_resamples, len(share)))
    above, below = share[drawn].mean(1), ceiling[drawn].mean(1)
    low, high = np.percentile(above[below > 0] / below[below > 0], [2.5, 97.5]).tolist()
    return _score(name, share.mean() / ceiling.mean(), len(share), (low, high))
