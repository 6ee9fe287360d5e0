"""METEOR of captions, computed by NLTK (MindEye2, spec section 10).

Legend: N images.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.pairs import Reference, check_captions, check_option, score_pairs

SYNONYMS = ("published", "corrected")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORDNET_COMMAND = "python -m nltk.downloader wordnet omw-1.4"


class WordNet(Protocol):
    """Interface of the WordNet reader that METEOR needs, for example NLTK's."""

    def synsets(self, lemma: str, /) -> Iterable[Any]:
        """Return the meanings of a word; each has `lemmas()`, and each lemma has `name()`."""


def missing_wordnet_message() -> str | None:
    """Return the text that replaces METEOR if NLTK's WordNet is not installed, None if it is."""
    import nltk

    for path in ("corpora/wordnet.zip", "corpora/wordnet"):
        try:
            nltk.data.find(path)
        except LookupError:
            continue
        return None
    return f"needs wordnet: {_WORDNET_COMMAND}"


def read_wordnet() -> WordNet:
    """Load NLTK's WordNet from NLTK's data folders; raises a UserError if it is missing or damaged."""
    from zipfile import BadZipFile

    from nltk.corpus import wordnet

    if missing_wordnet_message():
        raise UserError("METEOR needs WordNet, which is not installed", fix=_WORDNET_COMMAND)
    try:
        wordnet.ensure_loaded()
    except (LookupError, OSError, ValueError, BadZipFile) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError("the WordNet files are damaged", got=reason, fix=_WORDNET_COMMAND) from error
    return wordnet


def meteor(predicted: Sequence[str], references: Sequence[Reference], **options: Any) -> Tensor:
    """METEOR: matches of words, word stems and synonyms, with a penalty for scattered matches.

    Formula: P R / (alpha P + (1 - alpha) R) * (1 - gamma (chunks / matches)^beta), with P and R the matched fraction of
        the predicted and of the reference words; alpha 0.9, beta 3, gamma 0.5.
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none; NLTK's WordNet corpus
    Not shown: whether the caption is true of the image: function words and stock phrases match too, and a right caption
        in different words than the reference scores low.
    Source: MindEye2, spec section 10; Lavie and Agarwal 2007, as implemented by NLTK

    Args:
        predicted: N captions.
        references: captions of the same images, in the same order.
        options: keyword arguments of `meteor_per_image`.

    Returns:
        Scalar float64.
    """
    return meteor_per_image(predicted, references, **options).mean()


def meteor_per_image(
    predicted: Sequence[str],
    references: Sequence[Reference],
    *,
    wordnet: WordNet | None = None,
    several: str = "best",
    alpha: float = 0.9,
    beta: float = 3.0,
    gamma: float = 0.5,
    synonyms: str = "published",
) -> Tensor:
    """Per-image `meteor`, `(N,)` float64; 0 if no word matches.

    Args:
        predicted: N captions.
        references: captions of the same images, in the same order.
        wordnet: source of synonyms; NLTK's own if None.
        several: how several references of an image are combined, one of `SEVERAL`.
        alpha: weight of recall against precision.
        beta: exponent of the penalty for scattered matches.
        gamma: maximum of that penalty.
        synonyms: "published" looks words up by their stems as NLTK does, which WordNet often does not contain
            ("littl"); "corrected" looks up the words themselves.

    Raises:
        UserError: if WordNet is missing, or a caption is not a string.
    """
    from nltk.translate.meteor_score import single_meteor_score

    texts, lists = check_captions(predicted, references)
    check_option("synonyms", synonyms, SYNONYMS)
    reader = read_wordnet() if wordnet is None else wordnet

    def score(caption: str, reference: str) -> float:
        words = meteor_words(caption)
        source = reader if synonyms == "published" else _StemmedWordNet(reader, words)
        return single_meteor_score(meteor_words(reference), words, wordnet=source, alpha=alpha, beta=beta, gamma=gamma)

    return score_pairs(texts, lists, several, score)


def meteor_words(caption: str) -> list[str]:
    """Tokenise a caption for METEOR, punctuation included.

    This is NLTK's `word_tokenize` without Punkt, whose model would have to be downloaded: sentences end at a sentence
    mark before a space. Punkt gives the same result except after abbreviations.
    """
    from nltk.tokenize import word_tokenize

    sentences = _SENTENCE_END.split(caption.strip())
    return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]


class _StemmedWordNet:
    """WordNet adapter for NLTK's METEOR, which looks up word stems and expects stems as synonyms."""

    def __init__(self, wordnet: WordNet, words: Iterable[str]):
        from nltk.stem.porter import PorterStemmer

        self._wordnet, self._stem = wordnet, PorterStemmer().stem
        self._words: dict[str, list[str]] = {}
        for word in dict.fromkeys(word.lower() for word in words):
            self._words.setdefault(self._stem(word), []).append(word)

    def synsets(self, lemma: str) -> list[Any]:
        """Return the meanings of all words with this stem, each lemma replaced by its stem."""
        meanings = [meaning for word in self._words.get(lemma, []) for meaning in self._wordnet.synsets(word)]
        return [_Stems([self._stem(lemma.name()) for lemma in meaning.lemmas()]) for meaning in meanings]


class _Stems(list[str]):
    """Lemmas of a meaning, with the interface `lemmas()` and `name()` that NLTK expects."""

    def lemmas(self) -> list["_Lemma"]:
        return [_Lemma(stem) for stem in self]


class _Lemma(str):
    def name(self) -> str:
        return self
