"""Predicted captions and their references, checked and paired.

An image may have several references, of which COCO has five: `several` says what they make of one score. "best" takes
the best of them, as METEOR's and ROUGE's own authors do, "mean" their mean, "first" the first alone, for the published
evaluation has one reference of each image.

Legend: N images.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

Reference = str | Sequence[str]

#: What several references of one image make of its score.
SEVERAL: dict[str, Callable[[Tensor], Tensor]] = {"best": torch.max, "mean": torch.mean, "first": lambda each: each[0]}


def check_captions(predicted: Sequence[str], references: Sequence[Reference]) -> tuple[list[str], list[list[str]]]:
    """N captions, and the references of each image.

    Raises:
        UserError: naming what is no text, is missing, or has no counterpart.
    """
    for name, given in (("predicted", predicted), ("references", references)):
        if isinstance(given, str):
            raise UserError(f"{name} is a single caption", got=repr(given), expected="a list, one for each image")
    if len(predicted) != len(references):
        seen = f"{len(predicted)} predicted, references of {len(references)} images"
        raise UserError("captions and references differ in number", got=seen, expected="the same images in both")
    if len(predicted) == 0:
        raise UserError("there are no captions to score", got="an empty list", expected="one for each image")
    texts = [_text(caption, f"predicted caption {index}") for index, caption in enumerate(predicted)]
    lists = []
    for index, given in enumerate(references):
        if isinstance(given, str) or not isinstance(given, Iterable):
            lists.append([_text(given, f"reference caption {index}")])
        else:
            lists.append([_text(text, f"reference caption {index}, number {i} of it") for i, text in enumerate(given)])
        if not lists[-1]:
            raise UserError(f"image {index} (from 0) has no reference caption", expected="one or more")
    return texts, lists


def _text(caption: object, name: str) -> str:
    if not isinstance(caption, str):
        raise UserError(f"{name} (from 0) is no text", got=f"{type(caption).__name__} {caption!r}", expected="a string")
    return caption


def check_option(name: str, seen: str, wanted: Iterable[str]) -> None:
    """Refuses a value that is none of the wanted ones.

    Raises:
        UserError: naming the option and its values.
    """
    if seen not in wanted:
        raise UserError(f"{name} is unknown", got=seen, expected=" or ".join(wanted))


def score_pairs(texts: list[str], lists: list[list[str]], several: str, score: Callable[[str, str], float]) -> Tensor:
    """One score for each image, `(N,)` float64.

    Args:
        texts: N captions.
        lists: the references of each, as `check_captions` gives them.
        several: one of `SEVERAL`.
        score: of a caption and one reference.
    """
    values = [score(text, reference) for text, own in zip(texts, lists, strict=True) for reference in own]
    return pooled(torch.tensor(values, dtype=torch.float64), lists, several)


def pooled(values: Tensor, lists: list[list[str]], several: str) -> Tensor:
    """One score for each image, `(N,)`, of one for each of its references, all in a row."""
    check_option("several", several, SEVERAL)
    return torch.stack([SEVERAL[several](own) for own in values.split([len(own) for own in lists])])
