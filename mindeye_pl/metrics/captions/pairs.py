"""Validation and pairing of predicted captions with their references.

An image may have several references (COCO has five). `several` selects how they are combined: "best" takes the maximum,
as METEOR's and ROUGE's authors do, "mean" the mean, "first" the first, because the published evaluation has one
reference per image.

Legend: N images.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

Reference = str | Sequence[str]

#: Reductions of one image's scores over its references.
SEVERAL: dict[str, Callable[[Tensor], Tensor]] = {"best": torch.max, "mean": torch.mean, "first": lambda each: each[0]}


def check_captions(predicted: Sequence[str], references: Sequence[Reference]) -> tuple[list[str], list[list[str]]]:
    """Return N captions, and the list of references of each image.

    Raises:
        UserError: if a caption is not a string, is missing, or has no counterpart.
    """
    for name, given in (("predicted", predicted), ("references", references)):
        if isinstance(given, str):
            raise UserError(f"{name} is a single string", got=repr(given), expected="a list with one entry per image")
    if len(predicted) != len(references):
        got = f"{len(predicted)} predicted captions and references of {len(references)} images"
        raise UserError("captions and references differ in number", got=got, expected="the same images in both")
    if len(predicted) == 0:
        raise UserError("there are no captions to score", got="an empty list", expected="one caption per image")
    texts = [_text(caption, f"predicted caption {index}") for index, caption in enumerate(predicted)]
    lists = []
    for index, given in enumerate(references):
        if isinstance(given, str) or not isinstance(given, Iterable):
            lists.append([_text(given, f"reference caption {index}")])
        else:
            lists.append([_text(text, f"reference {i} of image {index}") for i, text in enumerate(given)])
        if not lists[-1]:
            raise UserError(f"image {index} has no reference caption", got=0, expected="at least 1")
    return texts, lists


def _text(caption: object, name: str) -> str:
    if not isinstance(caption, str):
        raise UserError(f"{name} is not a string", got=f"{type(caption).__name__} {caption!r}", expected="a string")
    return caption


def score_pairs(
    predicted: Sequence[str], references: Sequence[Reference], several: str, score: Callable[[str, str], float]
) -> Tensor:
    """Return one score per image, `(N,)` float64, by `score` of caption and reference; errors as `check_captions`."""
    texts, lists = check_captions(predicted, references)
    values = [score(text, reference) for text, own in zip(texts, lists, strict=True) for reference in own]
    return reduce_references(torch.tensor(values, dtype=torch.float64), lists, several)


def reduce_references(values: Tensor, lists: list[list[str]], several: str) -> Tensor:
    """Reduce concatenated scores, one per reference, to one score per image, `(N,)`."""
    return torch.stack([SEVERAL[several](own) for own in values.split([len(own) for own in lists])])
