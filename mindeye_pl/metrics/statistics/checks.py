"""What is refused before it is scored: the message names the image that is wrong.

Legend: N images, H and W their size, F values of a flattened embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

#: How far beyond [0, 1] a value may lie: resizing in half precision rounds by so much.
ROUNDING = 1e-3

#: Values looked at together, so that a check of large embeddings holds no second copy of them.
_VALUES_AT_ONCE = 2**24


def check_images(
    images: Tensor | Sequence[Tensor],
    *,
    what: str,
    names: Sequence[str] | None = None,
    like: Tensor | Sequence[Tensor] | None = None,
    same_size: bool = False,
) -> None:
    """Refuses images that cannot be scored.

    Args:
        images: `(N, 3, H, W)` floating point in [0, 1], or N of `(3, H, W)` that should have one size.
        what: what they are, for the message: "reconstructions".
        names: N names of images; their places stand for them where None.
        like: the set that they are compared with, of which there must be as many.
        same_size: whether `like` must also have their H and W.

    Raises:
        UserError: for an empty set, sets of unlike length, a wrong shape or type, NaN or infinity, and values outside
            [0, 1].
    """
    _check_count(images, what, names, like)
    for place, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != 3 or image.shape != images[0].shape:
            wanted = "(3, height, width), the same for all"
            raise UserError(f"{_the(what, place, names)} has a wrong shape", got=tuple(image.shape), expected=wanted)
        if not image.is_floating_point():
            problem, wanted = f"{_the(what, place, names)} has a wrong type", "floating point in [0, 1]"
            raise UserError(problem, got=image.dtype, expected=wanted, fix="divide 8-bit images by 255")
    if same_size and like is not None and images[0].shape != like[0].shape:
        sizes = [tuple(some[0].shape) for some in (images, like)]
        problem = f"the {what} have another size than their images"
        raise UserError(problem, got=sizes[0], expected=sizes[1], fix="set a size to which both are resized")
    for place, image in enumerate(images):
        low, high = image.detach().aminmax()
        _check_finite(low + high, what, place, names)
        if low < -ROUNDING or high > 1 + ROUNDING:
            span = f"{low.item():.4g} to {high.item():.4g}"
            raise UserError(f"{_the(what, place, names)} has values outside [0, 1]", got=span, expected="0 to 1")


def check_embeddings(
    embeddings: Tensor, *, what: str, names: Sequence[str] | None = None, like: Tensor | None = None
) -> None:
    """Refuses embeddings, or features of images, that cannot be compared.

    Args:
        embeddings: `(N, ...)` floating point; memory-mapped is fine, rows are read in blocks.
        what: what they are, for the message: "target tokens".
        names: N names of images; their places stand for them where None.
        like: the set that they are compared with: as many rows, of the same shape.

    Raises:
        UserError: for an empty set, sets of unlike length, rows of unlike shape, a type without fractions, and NaN or
            infinity.
    """
    _check_count(embeddings, what, names, like)
    if embeddings.ndim < 2 or embeddings[0].numel() == 0:
        raise UserError(f"the {what} have a wrong shape", got=tuple(embeddings.shape), expected="(images, values)")
    if not embeddings.is_floating_point():
        raise UserError(f"the {what} have a wrong type", got=embeddings.dtype, expected="floating point")
    if like is not None and embeddings.shape[1:] != like.shape[1:]:
        seen, wanted = tuple(embeddings.shape[1:]), tuple(like.shape[1:])
        raise UserError(f"the {what} have another shape than what they are compared with", got=seen, expected=wanted)
    rows_at_once = max(1, _VALUES_AT_ONCE // embeddings[0].numel())
    for start in range(0, len(embeddings), rows_at_once):
        rows = embeddings[start : start + rows_at_once].detach().flatten(1)
        if not (finite := _finite_rows(rows)).all():
            row = int((~finite).nonzero()[0])
            worst = rows[row][~rows[row].isfinite()][0]
            _check_finite(worst, what, start + row, names)


def _finite_rows(rows: Tensor) -> Tensor:
    """Whether all values of each row are finite, `(N, F)` -> `(N,)` bool, without a second copy in another type."""
    if rows.dtype == torch.float16:  # slow to compute with on a CPU; its exponent bits say the same
        return (rows.view(torch.int16) & 0x7C00).amax(1) < 0x7C00
    finite = rows.sum(1).isfinite()
    return finite if finite.all() else rows.isfinite().all(1)  # a sum may overflow where no value does


def _check_count(
    items: Tensor | Sequence[Tensor], what: str, names: Sequence[str] | None, like: Tensor | Sequence[Tensor] | None
) -> None:
    if len(items) == 0:
        raise UserError(f"there are no {what}", got=0, expected="one or more")
    if like is not None and len(items) != len(like):
        raise UserError(
            f"the {what} are not as many as what they are compared with", got=len(items), expected=len(like)
        )
    assert names is None or len(names) == len(items), f"{len(names or ())} names for {len(items)} {what}"


def _check_finite(value: Tensor, what: str, place: int, names: Sequence[str] | None) -> None:
    if not value.isfinite():
        kind = "NaN" if value.isnan() else "infinity"
        raise UserError(f"{_the(what, place, names)} holds {kind}", got=kind, expected="finite numbers")


def _the(what: str, place: int, names: Sequence[str] | None) -> str:
    return f"image {place if names is None else names[place]!r} of the {what}"
