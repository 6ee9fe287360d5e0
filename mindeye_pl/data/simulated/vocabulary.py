"""Tokenizer of simulated captions, for the laptop's text tower.

Legend: n captions, L maximum length of a caption in tokens.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mindeye_pl.data.simulated.objects import CATEGORIES
from mindeye_pl.data.simulated.scenes import BACKGROUNDS, COLOURS, RELATIONS, TEXTURES, name_objects

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTEXT_LENGTH = 48
_OTHER_WORDS = "a an and on background fading from to ground under sky light dark small medium-sized large , ."
_PAD, _START, _UNKNOWN, _END = "<pad>", "<start>", "<unknown>", "<end>"

#: Padding, start and end tokens.
MARKS = (_PAD, _START, _END)


@cache
def vocabulary() -> dict[str, int]:
    """Return the token id of every word; the end token has the highest id, which open_clip relies on."""
    words = {*COLOURS, *CATEGORIES, *TEXTURES, *BACKGROUNDS, *_OTHER_WORDS.split()}
    words |= {word for relation in RELATIONS for word in relation.split()}
    return {word: index for index, word in enumerate([_PAD, _START, _UNKNOWN, *sorted(words), _END])}


@cache
def _tokenizer() -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\w-]+|[,.]"), "removed", invert=True)
    marks = [(_START, words[_START]), (_END, words[_END])]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{_START} $A {_END}", special_tokens=marks)
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    tokenizer.enable_padding(pad_id=0, pad_token=_PAD, length=CONTEXT_LENGTH)
    return tokenizer


def tokenize_captions(texts: Sequence[str]) -> Tensor:
    """Return the token ids of captions, `(n, L)` int64, padded with 0."""
    return torch.tensor([encoding.ids for encoding in _tokenizer().encode_batch(list(texts))])


def tokenize_names(texts: Sequence[str]) -> Tensor:
    """Return the token ids of the objects that captions name, `(n, L)` int64: all that the laptop's CLIP has learned.

    "A large red apple, on blue clouds." becomes "An apple.". A caption that names no object is taken as it is.
    """
    names = [[word for word in re.findall(r"[\w-]+", text.lower()) if word in CATEGORIES] for text in texts]
    return tokenize_captions([name_objects(some) if some else text for some, text in zip(names, texts, strict=True)])
