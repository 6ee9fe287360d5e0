"""Similarity of captions to reference captions: common words, and embeddings (MindEye2, spec section 10).

All functions compare N predicted captions with the references of the same images in the same order and return `(N,)`
float64; `several` is one of `pairs.SEVERAL`. METEOR is in `meteor`.

Legend: N images, M sentences, E embedding width.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.pairs import Reference, check_captions, reduce_references, score_pairs

#: M sentences to `(M, E)`.
TextEmbedder = Callable[[Sequence[str]], Tensor]

#: Function words without visual content; prepositions of place are kept.
_STOP_WORDS = "a an and are at be being by for from in is it its of on or that the there to with"
_CONTENT_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


def rouge_per_image(
    predicted: Sequence[str],
    references: Sequence[Reference],
    *,
    kind: Literal["rouge1", "rougeL"] = "rouge1",
    several: str = "best",
) -> Tensor:
    """ROUGE-1 or ROUGE-L: common words, in any order or in the reference's order.

    Formula: 2 P R / (P + R), with P and R the fraction of predicted and of reference words that both have (ROUGE-1), or
        that their longest common subsequence has (ROUGE-L); lower case, letters and digits only, no stemming.
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none
    Not shown: meaning: synonyms count as wrong, and "a", "of", "on" and "with" as right.
    Source: MindEye2, spec section 10; Lin 2004. The published numbers are the median of bootstrapped means, this is the
        mean itself; they differ in the fourth digit.
    """
    from torchmetrics.functional.text import rouge_score

    def score(caption: str, reference: str) -> float:
        return float(rouge_score(caption, reference, rouge_keys=kind)[f"{kind}_fmeasure"])

    return score_pairs(predicted, references, several, score)


def word_overlap_per_image(
    predicted: Sequence[str], references: Sequence[Reference], *, several: str = "best"
) -> Tensor:
    """Common content words in any order: objects, colours, sizes and places, without articles and other stop words.

    Formula: 2 P R / (P + R), with P and R the fraction of predicted and of reference content words that both have,
        counted with multiplicity.
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none
    Not shown: which colour belongs to which object, synonyms, and word order.
    Source: this project, for captions of simulated scenes
    """
    return score_pairs(predicted, references, several, _content_overlap)


def _content_overlap(caption: str, reference: str) -> float:
    first, second = (
        Counter(word for word in _CONTENT_WORD.findall(text.lower()) if word not in _STOP_WORDS.split())
        for text in (caption, reference)
    )
    return 2 * (first & second).total() / max(first.total() + second.total(), 1)


def text_similarity_per_image(
    predicted: Sequence[str], references: Sequence[Reference], *, embedder: TextEmbedder, several: str = "best"
) -> Tensor:
    """Cosine of two captions' embeddings, by a sentence embedder or in the text space of a CLIP model.

    Formula: cos(e(predicted), e(reference)), with e the mean of all-MiniLM-L6-v2's last hidden states, or CLIP's
        projected text embedding
    Range: -1 to 1
    Direction: higher is better.
    Chance: no single number, and far above 0 for CLIP; see the row of another test image
    Weights: minilm; clip_text_b32 (CLIP-B), clip_text_l14 (CLIP-L); none for the laptop's own CLIP
    Not shown: numbers, colours, places and negations, which MiniLM hardly represents, so that a caption of the right
        topic scores well; how much is right by CLIP, whose embeddings of unrelated captions are already similar.
    Source: MindEye2, spec section 10; the paper prints it times 100

    Every sentence is embedded once.

    Raises:
        UserError: as `pairs.check_captions`, and if an embedding is not finite.
    """
    texts, lists = check_captions(predicted, references)
    sentences = list(dict.fromkeys([*texts, *(reference for own in lists for reference in own)]))
    embeddings = embedder(sentences).double()  # (M, E)
    assert embeddings.ndim == 2, embeddings.shape
    assert len(embeddings) == len(sentences), f"{len(embeddings)} embeddings of {len(sentences)} sentences"
    for sentence, finite in zip(sentences, embeddings.isfinite().all(1).tolist(), strict=True):
        if not finite:
            raise UserError("the embedding of a caption contains NaN or infinity", got=repr(sentence))
    embeddings = embeddings / embeddings.norm(dim=1, keepdim=True).clamp_min(1e-12)
    row = {sentence: index for index, sentence in enumerate(sentences)}
    firsts = [row[text] for text, own in zip(texts, lists, strict=True) for _ in own]
    seconds = [row[reference] for own in lists for reference in own]
    return reduce_references((embeddings[firsts] * embeddings[seconds]).sum(1), lists, several)


class CachedEmbedder:
    """Text embedder that embeds each sentence only once."""

    def __init__(self, embedder: TextEmbedder):
        self._embedder = embedder
        self._cache: dict[str, Tensor] = {}

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Embed M sentences, `(M, E)`."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._cache]
        if new:
            self._cache |= dict(zip(new, self._embedder(new), strict=True))
        return torch.stack([self._cache[sentence] for sentence in sentences])
