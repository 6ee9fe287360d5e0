"""METEOR of captions, computed by NLTK (MindEye2, spec section 10).

Legend: N images.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.pairs import Reference, score_pairs

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


def meteor_per_image(
    predicted: Sequence[str], references: Sequence[Reference], *, wordnet: WordNet | None = None, several: str = "best"
) -> Tensor:
    """METEOR: matches of words, word stems and synonyms, with a penalty for scattered matches.

    Formula: P R / (alpha P + (1 - alpha) R) * (1 - gamma (chunks / matches)^beta), with P and R the matched fraction of
        the predicted and of the reference words; alpha 0.9, beta 3, gamma 0.5.
    Range: 0 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image
    Weights: none; NLTK's WordNet corpus
    Not shown: whether the caption is true of the image: function words and stock phrases match too, and a right caption
        in different words than the reference scores low.
    Source: MindEye2, spec section 10; Lavie and Agarwal 2007, as implemented by NLTK, which looks words up by their
        stems; WordNet often does not contain these ("littl").

    Arguments and result as in `similarity`; `wordnet` is the source of synonyms, NLTK's own if None.

    Raises:
        UserError: if WordNet is missing, or as `pairs.check_captions`.
    """
    from nltk.translate.meteor_score import single_meteor_score

    match = partial(single_meteor_score, wordnet=read_wordnet() if wordnet is None else wordnet)
    return score_pairs(
        predicted, references, several, lambda text, reference: match(meteor_words(reference), meteor_words(text))
    )


def meteor_words(caption: str) -> list[str]:
    """Tokenise a caption for METEOR, punctuation included.

    This is NLTK's `word_tokenize` without Punkt, whose model would have to be downloaded: sentences end at a sentence
    mark before a space. Punkt gives the same result except after abbreviations.
    """
    from nltk.tokenize import word_tokenize

    sentences = _SENTENCE_END.split(caption.strip())
    return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]
