"""Streaming caption metrics: torchmetrics classes with the names of the functions of `similarity` and `meteor`.

Legend: B batch, N images since the last reset.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mindeye_pl.metrics.captions import similarity as captions
from mindeye_pl.metrics.captions.meteor import WordNet, meteor_per_image
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.similarity import TextEmbedder


class CaptionScore(Metric):
    """Mean over images of a per-image score.

    Args:
        per_image: captions and references of B images to `(B,)` float64.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    values: list[Tensor]

    def __init__(self, per_image: Callable[[Sequence[str], Sequence[Reference]], Tensor]):
        super().__init__()
        self._per_image = per_image  # a partial hides an embedder's weights from this module's state
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Sequence[str], references: Sequence[Reference]) -> None:
        """Add B captions, and the references of the same images in the same order."""
        self.values.append(self._per_image(predicted, references).to(self.device))

    def compute(self) -> Tensor:
        """Return the mean, a float64 scalar."""
        return self.per_image().mean()

    def per_image(self) -> Tensor:
        """Return the score of every image, `(N,)` float64."""
        return torch.as_tensor(dim_zero_cat(self.values))


class Meteor(CaptionScore):
    """Streaming `meteor`.

    Args:
        wordnet: source of synonyms; NLTK's own if None.
        options: other keyword arguments of `meteor_per_image`.
    """

    def __init__(self, wordnet: WordNet | None = None, **options: Any):
        super().__init__(partial(meteor_per_image, wordnet=wordnet, **options))


class Rouge(CaptionScore):
    """Streaming `rouge`.

    Args:
        kind: "rouge1" or "rougeL".
        several: one of `pairs.SEVERAL`.
    """

    def __init__(self, kind: str = "rouge1", *, several: str = "best"):
        super().__init__(partial(captions.rouge_per_image, kind=kind, several=several))


class WordOverlap(CaptionScore):
    """Streaming `word_overlap`.

    Args:
        several: one of `pairs.SEVERAL`.
    """

    def __init__(self, *, several: str = "best"):
        super().__init__(partial(captions.word_overlap_per_image, several=several))


class TextSimilarity(CaptionScore):
    """Streaming `text_similarity`.

    Args:
        embedder: M sentences to `(M, E)`, on a device of its own.
        several: one of `pairs.SEVERAL`.
    """

    def __init__(self, embedder: TextEmbedder, *, several: str = "best"):
        super().__init__(partial(captions.text_similarity_per_image, embedder=embedder, several=several))


class SentenceSimilarity(TextSimilarity):
    """Streaming `sentence_similarity`; arguments as `TextSimilarity`."""
