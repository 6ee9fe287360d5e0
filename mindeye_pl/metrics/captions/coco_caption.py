"""BLEU, ROUGE-L and CIDEr as the COCO caption evaluation defines them, on its words (BrainHub's table).

All references of an image count. The evaluation's METEOR and SPICE are Java programs and are not computed.

Legend: N images, R resamples.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.metrics.captions.meteor import meteor_words
from mindeye_pl.metrics.captions.pairs import Reference, check_captions

#: Longest n-gram.
MAX_N = 4
#: Tokens that the COCO caption evaluation removes.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", '"', "(", ")", "{", "}", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
#: Terms that keep a BLEU of no match above 0, in the reference implementation.
_TINY, _SMALL = 1e-15, 1e-9
#: Weight of recall in ROUGE-L.
_BETA = 1.2
#: Width of the length penalty of CIDEr, in words.
_SIGMA = 6.0

NGrams = Counter[tuple[str, ...]]


@dataclass(frozen=True)
class CorpusScore:
    """Score of a whole set of captions that is no mean over images.

    Attributes:
        value: of the set.
        resampled: values `(R,)` of resamples of the images, by how often each has an image, `(R, N)`; None where a
            resample says nothing about other sets.
    """

    value: float
    resampled: Callable[[np.ndarray], np.ndarray] | None = None


@lru_cache(maxsize=1 << 16)
def coco_words(caption: str) -> tuple[str, ...]:
    """Tokenise a caption in lower case without punctuation, as the COCO caption evaluation does.

    The evaluation uses the Penn Treebank tokeniser of Stanford; this is NLTK's, which gives the same words for nearly
    all captions.
    """
    return tuple(word for word in meteor_words(caption.lower()) if word not in _PUNCTUATION)


def bleu(predicted: Sequence[str], references: Sequence[Reference], *, n: int) -> CorpusScore:
    """BLEU-n: n-grams of the captions that are also in a reference, for all captions together.

    Formula: min(1, exp(1 - r / c)) * (prod_{k <= n} p_k)^(1 / n), with p_k the fraction of predicted k-grams of all
        captions that a reference of the same image has at least as often, c the number of predicted words and r that
        of the references nearest in length
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none
    Not shown: meaning: "a man riding a wave" shares most of its n-grams with any caption of a man riding something. No
        mean over images, so captions of one kind can carry it.
    Source: Papineni et al. 2002, as in the COCO caption evaluation (BrainHub); checked against BrainHub's table

    Predicted captions and references of N images as in `pairs.check_captions`; n is 1 to 4.
    """
    assert 1 <= n <= MAX_N, n
    texts, lists = check_captions(predicted, references)
    counts = np.array([_bleu_counts(text, own) for text, own in zip(texts, lists, strict=True)], np.float64)  # (N, 10)
    return CorpusScore(float(_bleu_of(counts.sum(0), n)), lambda weights: _bleu_of(weights @ counts, n))


def _bleu_counts(caption: str, references: Sequence[str]) -> list[int]:
    """Return the number of matches and of predicted n-grams for each n, the number of words and the nearest one."""
    words, wanted = coco_words(caption), [coco_words(reference) for reference in references]
    nearest = min((abs(len(other) - len(words)), len(other)) for other in wanted)[1]
    matches, guesses = [], []
    for n in range(1, MAX_N + 1):
        found, most = _ngrams(words, n), Counter[tuple[str, ...]]()
        for other in wanted:
            most |= _ngrams(other, n)
        matches.append((found & most).total())
        guesses.append(found.total())
    return [*matches, *guesses, len(words), nearest]


def _bleu_of(sums: np.ndarray, n: int) -> np.ndarray:
    """Return BLEU-n of summed counts, `(..., 10)` -> `(...)`."""
    matches, guesses = sums[..., :n], sums[..., MAX_N : MAX_N + n]
    precision = np.prod((matches + _TINY) / (guesses + _SMALL), axis=-1) ** (1 / n)
    ratio = (sums[..., -2] + _TINY) / (sums[..., -1] + _SMALL)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def rouge_coco_per_image(predicted: Sequence[str], references: Sequence[Reference]) -> Tensor:
    """ROUGE-L of the COCO caption evaluation: precision and recall of the best references, recall weighted higher.

    Formula: (1 + b^2) P R / (R + b^2 P), b 1.2, with P and R the largest fraction over references of predicted and of
        reference words in their longest common subsequence
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none
    Not shown: meaning: synonyms count as wrong, and "a", "of", "on" and "with" as right. P and R may come from
        different references.
    Source: Lin 2004, as in the COCO caption evaluation (BrainHub); checked against BrainHub's table

    Arguments as `bleu`; result `(N,)` float64.
    """
    texts, lists = check_captions(predicted, references)
    return torch.tensor([_rouge(text, own) for text, own in zip(texts, lists, strict=True)], dtype=torch.float64)


def _rouge(caption: str, references: Sequence[str]) -> float:
    words = coco_words(caption)
    common = [(_common_length(words, other), len(other)) for other in map(coco_words, references)]
    precision = max(length / max(len(words), 1) for length, _ in common)
    recall = max(length / max(size, 1) for length, size in common)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for index, other in enumerate(second, start=1):
            above = best[index]
            best[index] = before + 1 if word == other else max(above, best[index - 1])
            before = above
    return best[-1]


def cider_per_image(predicted: Sequence[str], references: Sequence[Reference]) -> Tensor:
    """CIDEr-D: n-grams in common with the references, rare ones weighted higher.

    Formula: mean over references and n = 1 to 4 of 10 exp(-d^2 / 72) sum_w min(g_w, h_w) h_w / (|g| |h|), with g and h
        the n-grams of caption and reference, each count times log(N / number of images with w in a reference), and d
        the difference of lengths, in bigrams
    Range: 0 to 10; published tables print it times 100
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none; the frequencies are those of the set's own references, so scores of different sets cannot be compared
    Not shown: a caption that fits many images alike can score; see the number of distinct captions. Of a set of one
        image every score is 0.
    Source: Vedantam et al. 2015, as in the COCO caption evaluation (BrainHub); checked against BrainHub's table

    Arguments as `bleu`; result `(N,)` float64.
    """
    texts, lists = check_captions(predicted, references)
    grams = [[_all_ngrams(reference) for reference in own] for own in lists]
    frequency = Counter(chain.from_iterable(set(chain.from_iterable(own)) for own in grams))
    log_count = np.log(len(texts))
    scores = []
    for text, own in zip(texts, grams, strict=True):
        caption = _weighted(_all_ngrams(text), frequency, log_count)
        each = [_similarity(caption, _weighted(reference, frequency, log_count)) for reference in own]
        scores.append(10 * float(np.mean(each)))
    return torch.tensor(scores, dtype=torch.float64)


@dataclass(frozen=True)
class _Weighted:
    """Weighted n-grams by n, their norms, and the number of bigrams."""

    vectors: list[dict[tuple[str, ...], float]]
    norms: list[float]
    length: int


def _weighted(grams: NGrams, frequency: Counter[tuple[str, ...]], log_count: float) -> _Weighted:
    vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_N)]
    for gram, count in grams.items():
        vectors[len(gram) - 1][gram] = count * (log_count - np.log(max(1, frequency[gram])))
    norms = [float(np.sqrt(sum(value**2 for value in vector.values()))) for vector in vectors]
    return _Weighted(vectors, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _similarity(caption: _Weighted, reference: _Weighted) -> float:
    total = 0.0
    for found, wanted, *norms in zip(caption.vectors, reference.vectors, caption.norms, reference.norms, strict=True):
        product = sum(min(value, wanted[gram]) * wanted[gram] for gram, value in found.items() if gram in wanted)
        total += product / float(np.prod(norms)) if all(norms) else 0.0
    penalty = np.exp(-((caption.length - reference.length) ** 2) / (2 * _SIGMA**2))
    return float(penalty * total / MAX_N)


def distinct_captions(predicted: Sequence[str], references: Sequence[Reference]) -> CorpusScore:
    """Number of different captions, by their words.

    Formula: number of different sequences of words among the N captions
    Range: 1 to N
    Direction: higher is better.
    Chance: no single number; compare with the captions of the true images
    Weights: none
    Not shown: whether a caption is right. It shows a collapse to a few stock captions, which can still score well.
    Source: this project; captions of one session of MindEye2 are visibly collapsed (BrainHub)

    Arguments as `bleu`; no interval, because the number depends on N.
    """
    texts, _ = check_captions(predicted, references)
    return CorpusScore(len(set(map(coco_words, texts))))


def _all_ngrams(caption: str) -> NGrams:
    words = coco_words(caption)
    return Counter(chain.from_iterable(_ngrams(words, n).elements() for n in range(1, MAX_N + 1)))


def _ngrams(words: Sequence[str], n: int) -> NGrams:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
