"""Caption metrics that take in batches: classes of the same names as the functions of `captions` and `meteor`.

Legend: B batch, N images since the last reset.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mindeye_pl.metrics.captions import similarity as captions
from mindeye_pl.metrics.captions.meteor import WordNet, meteor_of_each
from mindeye_pl.metrics.captions.pairs import Reference
from mindeye_pl.metrics.captions.similarity import TextEmbedder


class CaptionScore(Metric):
    """The mean over images of a score that each has for itself.

    Args:
        of_each: captions and references of B images to `(B,)` float64.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    values: list[Tensor]

    def __init__(self, of_each: Callable[[Sequence[str], Sequence[Reference]], Tensor]):
        super().__init__()
        self._of_each = of_each  # held in a partial, so that an embedder's weights are no part of this state
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Sequence[str], references: Sequence[Reference]) -> None:
        """Takes in B captions, and the references of the same images in the same order."""
        self.values.append(self._of_each(predicted, references).to(self.device))

    def compute(self) -> Tensor:
        """The mean, a scalar float64."""
        return self.of_each().mean()

    def of_each(self) -> Tensor:
        """The score of every image, `(N,)` float64."""
        return torch.as_tensor(dim_zero_cat(self.values))


class Meteor(CaptionScore):
    """`meteor` of everything seen since the last reset.

    Args:
        wordnet: tells synonyms; NLTK's own where None.
        several: one of `caption_pairs.SEVERAL`.
        alpha: weight of recall against precision.
        beta: how steeply scattered words are punished.
        gamma: how much at the most.
        synonyms: "published" or "corrected".
    """

    def __init__(
        self,
        wordnet: WordNet | None = None,
        *,
        several: str = "best",
        alpha: float = 0.9,
        beta: float = 3.0,
        gamma: float = 0.5,
        synonyms: str = "published",
    ):
        super().__init__(
            partial(
                meteor_of_each,
                wordnet=wordnet,
                several=several,
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                synonyms=synonyms,
            )
        )


class Rouge(CaptionScore):
    """`rouge` of everything seen since the last reset.

    Args:
        kind: "rouge1" or "rougeL".
        several: one of `caption_pairs.SEVERAL`.
    """

    def __init__(self, kind: str = "rouge1", *, several: str = "best"):
        super().__init__(partial(captions.rouge_of_each, kind=kind, several=several))


class WordOverlap(CaptionScore):
    """`word_overlap` of everything seen since the last reset.

    Args:
        several: one of `caption_pairs.SEVERAL`.
    """

    def __init__(self, *, several: str = "best"):
        super().__init__(partial(captions.word_overlap_of_each, several=several))


class TextSimilarity(CaptionScore):
    """`text_similarity` of everything seen since the last reset.

    Args:
        embedder: M sentences to `(M, E)`, on a device of its own.
        several: one of `caption_pairs.SEVERAL`.
    """

    def __init__(self, embedder: TextEmbedder, *, several: str = "best"):
        super().__init__(partial(captions.text_similarity_of_each, embedder=embedder, several=several))


class SentenceSimilarity(TextSimilarity):
    """`sentence_similarity` of everything seen since the last reset; arguments as `TextSimilarity`."""
