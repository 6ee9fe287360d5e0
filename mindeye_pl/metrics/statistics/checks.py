"""Validation of images and embeddings before scoring; error messages name the invalid image.

Legend: N images, H and W image size, F values of a flattened embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mindeye_pl.errors import UserError

#: Tolerance around [0, 1]: the rounding error of resizing in half precision.
ROUNDING = 1e-3

#: Values checked per block, so that a check of large embeddings makes no second copy of them.
_VALUES_PER_BLOCK = 2**24


def check_images(
    images: Tensor,
    *,
    what: str,
    names: Sequence[str] | None = None,
    like: Tensor | None = None,
    same_size: bool = False,
) -> None:
    """Check that images can be scored: `(N, 3, H, W)` floating point in [0, 1].

    `what` names the set for error messages, as in "reconstructions"; `names` are the N images', indices if None. `like`
    is the set that they are compared with; `same_size` also requires its H and W.

    Raises:
        UserError: for an empty set, sets that differ in length, a wrong shape or type, NaN or infinity, and values
            outside [0, 1].
    """
    _check_count(images, what, like)
    assert names is None or len(names) == len(images), f"{len(names or ())} names for {len(images)} {what}"
    if images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"the {what} have a wrong shape", got=tuple(images.shape[1:]), expected="(3, height, width)")
    if not images.is_floating_point():
        expected, fix = "floating point in [0, 1]", "divide 8-bit images by 255"
        raise UserError(f"the {what} have a wrong dtype", got=images.dtype, expected=expected, fix=fix)
    if same_size and like is not None and images.shape != like.shape:
        problem = f"the {what} differ in size from the images they are compared with"
        fix = "resize both with the option size"
        raise UserError(problem, got=tuple(images.shape[1:]), expected=tuple(like.shape[1:]), fix=fix)
    for index, image in enumerate(images):
        low, high = image.detach().aminmax()
        name = f"image {index if names is None else names[index]!r} of the {what}"
        _check_finite(low + high, name)
        if low < -ROUNDING or high > 1 + ROUNDING:
            span = f"{low.item():.4g} to {high.item():.4g}"
            raise UserError(f"{name} has values outside [0, 1]", got=span, expected="0 to 1")


def check_embeddings(embeddings: Tensor, *, what: str, like: Tensor | None = None) -> None:
    """Check that embeddings, or features of images, `(N, ...)` floating point, can be compared, as `check_images`.

    Memory-mapped ones are fine: rows are read in blocks.

    Raises:
        UserError: for an empty set, sets that differ in length or row shape, a dtype that is not floating point, and
            NaN or infinity.
    """
    _check_count(embeddings, what, like)
    if embeddings.ndim < 2 or embeddings[0].numel() == 0:
        raise UserError(f"the {what} have a wrong shape", got=tuple(embeddings.shape), expected="(images, values)")
    if not embeddings.is_floating_point():
        raise UserError(f"the {what} have a wrong dtype", got=embeddings.dtype, expected="floating point")
    if like is not None and embeddings.shape[1:] != like.shape[1:]:
        got, expected = tuple(embeddings.shape[1:]), tuple(like.shape[1:])
        raise UserError(f"the {what} differ in shape from what they are compared with", got=got, expected=expected)
    block_size = max(1, _VALUES_PER_BLOCK // embeddings[0].numel())
    for start in range(0, len(embeddings), block_size):
        rows = embeddings[start : start + block_size].detach().flatten(1)
        if not (finite := _finite_rows(rows)).all():
            row = int((~finite).nonzero()[0])
            _check_finite(rows[row][~rows[row].isfinite()][0], f"image {start + row} of the {what}")


def _finite_rows(rows: Tensor) -> Tensor:
    """Test each row for NaN and infinity, `(N, F)` -> `(N,)` bool, without a copy in another dtype."""
    if rows.dtype == torch.float16:  # float16 sums are slow on a CPU; the exponent bits answer the same question
        return (rows.view(torch.int16) & 0x7C00).amax(1) < 0x7C00
    finite = rows.sum(1).isfinite()
    return finite if finite.all() else rows.isfinite().all(1)  # the sum of finite values may overflow


def _check_count(items: Tensor, what: str, like: Tensor | None) -> None:
    if len(items) == 0:
        raise UserError(f"there are no {what}", got=0, expected="at least 1")
    if like is not None and len(items) != len(like):
        problem = f"the {what} differ in number from what they are compared with"
        raise UserError(problem, got=len(items), expected=len(like))


def _check_finite(value: Tensor, name: str) -> None:
    if not value.isfinite():
        kind = "NaN" if value.isnan() else "infinity"
        raise UserError(f"{name} contains {kind}", got=kind, expected="finite numbers")
