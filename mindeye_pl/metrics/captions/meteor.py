"""METEOR of captions, through NLTK (MindEye2, spec section 10).

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
    """What METEOR asks of a WordNet reader, NLTK's for instance."""

    def synsets(self, lemma: str, /) -> Iterable[Any]:
        """The meanings of a word; each has `lemmas()`, and each of those a `name()`."""


def lacking_wordnet() -> str | None:
    """The line that stands in place of METEOR where NLTK's WordNet is not on this machine, None where it is."""
    import nltk

    for place in ("corpora/wordnet.zip", "corpora/wordnet"):
        try:
            nltk.data.find(place)
        except LookupError:
            continue
        return None
    return f"needs wordnet: {_WORDNET_COMMAND}"


def read_wordnet() -> WordNet:
    """NLTK's WordNet, read from where its downloader has put it.

    Raises:
        UserError: if it is not there, or not whole.
    """
    from zipfile import BadZipFile

    from nltk.corpus import wordnet

    if lacking_wordnet():
        raise UserError("METEOR needs wordnet, which is not on this machine", fix=_WORDNET_COMMAND)
    try:
        wordnet.ensure_loaded()
    except (LookupError, OSError, ValueError, BadZipFile) as error:
        seen = str(error).strip().splitlines()[0]
        raise UserError("wordnet is not whole", got=seen, fix=_WORDNET_COMMAND) from error
    return wordnet


def meteor(predicted: Sequence[str], references: Sequence[Reference], **options: Any) -> Tensor:
    """METEOR: words in common, word stems and synonyms among them, less a penalty for scattered ones.

    Formula: P R / (alpha P + (1 - alpha) R) * (1 - gamma (chunks / matches)^beta), with P and R the matched share of
        the predicted and of the reference words; alpha 0.9, beta 3, gamma 0.5.
    Range: 0 to 1
    Direction: higher is better.
    Chance: no one number; the row of another test image stands for it
    Weights: none; NLTK's WordNet corpus
    Not shown: whether what is said is true of the image: function words and stock phrases of captions match too,
        and a right caption in other words than the reference's scores low.
    Source: MindEye2, spec section 10; Lavie and Agarwal 2007, as NLTK has it

    Args:
        predicted: N captions.
        references: of the same images, in the same order.
        options: as in `meteor_of_each`.

    Returns:
        Scalar float64.
    """
    return meteor_of_each(predicted, references, **options).mean()


def meteor_of_each(
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
    """As `meteor`, of each image: `(N,)` float64; 0 where no word matches.

    Args:
        predicted: N captions.
        references: of the same images, in the same order.
        wordnet: tells synonyms; NLTK's own where None.
        several: one of `SEVERAL`.
        alpha: weight of recall against precision.
        beta: how steeply scattered words are punished.
        gamma: how much at the most.
        synonyms: "published" looks words up by their stems as NLTK does, which WordNet often does not know ("littl"),
            "corrected" by the words themselves.

    Raises:
        UserError: if WordNet is missing, or a caption is no text.
    """
    from nltk.translate.meteor_score import single_meteor_score

    texts, lists = check_captions(predicted, references)
    check_option("synonyms", synonyms, SYNONYMS)
    reader = read_wordnet() if wordnet is None else wordnet

    def score(caption: str, reference: str) -> float:
        words = meteor_words(caption)
        known = reader if synonyms == "published" else _ByStem(reader, words)
        return single_meteor_score(meteor_words(reference), words, wordnet=known, alpha=alpha, beta=beta, gamma=gamma)

    return score_pairs(texts, lists, several, score)


def meteor_words(caption: str) -> list[str]:
    """A caption as METEOR reads it, with its marks of punctuation.

    NLTK's `word_tokenize` without Punkt, whose model would have to be downloaded: sentences end where a mark that ends
    one stands before a space. That is Punkt's answer too, but for abbreviations.
    """
    from nltk.tokenize import word_tokenize

    sentences = _SENTENCE_END.split(caption.strip())
    return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]


class _ByStem:
    """WordNet for NLTK's METEOR, which asks for the stem of a word, and looks for stems among its synonyms."""

    def __init__(self, wordnet: WordNet, words: Iterable[str]):
        from nltk.stem.porter import PorterStemmer

        self._wordnet, self._stem = wordnet, PorterStemmer().stem
        self._words: dict[str, list[str]] = {}
        for word in dict.fromkeys(word.lower() for word in words):
            self._words.setdefault(self._stem(word), []).append(word)

    def synsets(self, lemma: str) -> list[Any]:
        """The meanings of all words that have this stem, each lemma as its stem."""
        meanings = [meaning for word in self._words.get(lemma, []) for meaning in self._wordnet.synsets(word)]
        return [_Stems([self._stem(lemma.name()) for lemma in meaning.lemmas()]) for meaning in meanings]


class _Stems(list[str]):
    """The lemmas of a meaning, which NLTK asks for by `lemmas()` and `name()`."""

    def lemmas(self) -> list["_Lemma"]:
        return [_Lemma(stem) for stem in self]


class _Lemma(str):
    def name(self) -> str:
        return self
