"""Metrics on pixels: PixCorr and SSIM (MindEye2, spec section 10).

Images are processed in small batches, because 1,000 images at the published size are gigabytes.

Legend: N pairs of images, H and W image size, b images of a batch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode
from torchvision.transforms.v2.functional import resize as tv_resize

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import correlation_per_row
from mindeye_pl.metrics.statistics.checks import check_images

#: Side in pixels of the published evaluation.
PUBLISHED_SIZE = 425

#: Side in pixels of SSIM's sliding window: a Gaussian of sigma 1.5, truncated at 3.5 sigma.
SSIM_WINDOW = 11

_BATCH_SIZE = 8


def pixcorr_per_image(
    reconstructions: Tensor,
    images: Tensor,
    *,
    size: int | None = PUBLISHED_SIZE,
    antialias: bool = False,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Correlation of the pixel values of each pair.

    Formula: mean over i of r(x_i, y_i), r the Pearson correlation over all 3 H W values of an image
    Range: -1 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image. Unrelated photographs may correlate.
    Weights: none
    Not shown: the content of the image. A blur of the right brightness beats a sharp image of the right objects: the
        low-level branch alone scores 0.40, the whole of MindEye2 0.32.
    Source: MindEye2, spec section 10: 425 pixels, bilinear, not antialiased.

    Both are resized to a square of `size` pixels, unless that is None; the published code does it without antialiasing.
    `names` are the images', for error messages.

    Shape: `(N, 3, H, W)`, `(N, 3, H, W)` floating point in [0, 1] -> `(N,)` float64; 0 for an image of one colour.

    Raises:
        UserError: as `checks.check_images`.
    """
    pairs = _resized_pairs(reconstructions, images, size, antialias, names)
    return torch.cat([correlation_per_row(some, others) for some, others in pairs])


def ssim_per_image(
    reconstructions: Tensor,
    images: Tensor,
    *,
    size: int | None = PUBLISHED_SIZE,
    form: Literal["published", "torchmetrics"] = "published",
    antialias: bool = False,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Structural similarity of each pair, over windows of 11 pixels with Gaussian weights.

    Formula: mean over i and windows of (2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1) (s_x^2 + s_y^2 +
        c_2)), m and s the weighted means and (co)variances of a window, sigma 1.5, c_1 = 0.01^2, c_2 = 0.03^2
    Range: -1 to 1
    Direction: higher is better.
    Chance: no single number; see the rows of the grey image and of another test image.
    Weights: none
    Not shown: the content of the image. Smooth images agree with the smooth parts of any photograph: the low-level
        branch alone scores 0.54, the whole of MindEye2 0.43, and images decoded from the true tokens 0.23.
    Source: MindEye2, spec section 10 ("published": scikit-image, grey images, windows inside them); torchmetrics
        ("torchmetrics": the mean over three colours, windows over mirrored borders too).

    Arguments, result and errors as of `pixcorr_per_image`; images smaller than a window are refused too.
    """
    compute = {"published": _published_ssim, "torchmetrics": _torchmetrics_ssim}[form]
    pairs = _resized_pairs(reconstructions, images, size, antialias, names)
    side = min(reconstructions.shape[2:]) if size is None else size
    if side < SSIM_WINDOW:
        got, expected = f"{side} pixels", f"at least {SSIM_WINDOW} pixels"
        fix = "resize both with the option size"
        raise UserError("the images are too small for SSIM", got=got, expected=expected, fix=fix)
    return torch.cat([compute(some, others) for some, others in pairs])


def _published_ssim(some: Tensor, others: Tensor) -> Tensor:
    """Compute SSIM by scikit-image on grey images, `(b, 3, H, W)` twice -> `(b,)` float64 on the CPU."""
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    grey = [rgb2gray(batch.permute(0, 2, 3, 1).float().cpu().numpy()) for batch in (some, others)]  # (b, H, W) each
    options: dict[str, Any] = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
    }
    scores = [structural_similarity(*pair, **options) for pair in zip(*grey, strict=True)]
    return torch.tensor(np.asarray(scores, dtype=np.float64))


def _torchmetrics_ssim(some: Tensor, others: Tensor) -> Tensor:
    """Compute SSIM by torchmetrics on colour images, `(b, 3, H, W)` twice -> `(b,)` float64."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    options: dict[str, Any] = {"sigma": 1.5, "reduction": "none", "data_range": 1.0}
    scores = structural_similarity_index_measure(some.float(), others.float(), **options)
    assert isinstance(scores, Tensor)
    return scores.double()


def _resized_pairs(
    reconstructions: Tensor, images: Tensor, size: int | None, antialias: bool, names: Sequence[str] | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Check the images and yield batches of resized pairs, `(b, 3, size, size)` each."""
    check_images(images, what="images", names=names)
    check_images(reconstructions, what="reconstructions", names=names, like=images, same_size=size is None)
    blocks = zip(reconstructions.split(_BATCH_SIZE), images.split(_BATCH_SIZE), strict=True)
    if size is None:
        return blocks
    # Without antialiasing this equals the published code's torchvision on tensors.
    resized = partial(tv_resize, size=[size, size], interpolation=InterpolationMode.BILINEAR, antialias=antialias)
    return ((resized(some), resized(others)) for some, others in blocks)
