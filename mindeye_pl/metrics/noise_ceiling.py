"""How well any prediction could agree with measured betas, as these are noisy (NSD data paper; MindEye2 has none).

Legend: N images, V voxels, R repetitions of an image.
"""

from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import correlation_of_each


def noise_ceiling(ncsnr: Any, repetitions: Any) -> Tensor:
    """The highest correlation across images that a prediction can have with the measured betas of each voxel.

    sqrt(ncsnr^2 / (ncsnr^2 + 1/R)) for the mean of R repetitions; where images differ in R, the mean of their 1/R
    takes the place of 1/R. It is what the noise-free response itself would score on average over many images.

    Args:
        ncsnr: `(V,)`, standard deviation of the signal over that of the noise of one trial; may be infinite.
        repetitions: R > 0, one number or `(N,)`; see `effective_repetitions` for weighted averages.

    Returns:
        `(V,)` float64 in [0, 1].
    """
    ratio = torch.as_tensor(ncsnr).double()
    noise = (1 / torch.as_tensor(repetitions).double()).mean().to(ratio.device)
    return (1 / (1 + noise / ratio.square())).sqrt()  # so written that 0 and infinity have their limits


def effective_repetitions(repetitions: Tensor, weights: Tensor | None = None) -> Tensor:
    """How many repetitions, averaged with equal weights, would be as free of noise as each image's measured betas.

    A response that stands more than once has its noise once: the published average of a, a and b is worth 1.8.

    Args:
        repetitions: `(N, R, V)`.
        weights: `(N, R)` of the average, rows summing to 1; equal ones where None.

    Returns:
        `(N,)` float64, between 1 and R.
    """
    count = repetitions.shape[1]
    shares = torch.full(repetitions.shape[:2], 1 / count) if weights is None else weights
    shares = shares.to(repetitions.device, torch.float64)
    noise = torch.zeros(len(repetitions), dtype=torch.float64, device=repetitions.device)
    for i in range(count):
        for j in range(count):
            same = (repetitions[:, i] == repetitions[:, j]).all(1)
            noise += shares[:, i] * shares[:, j] * same
    return 1 / noise


def ceiling_between_repetitions(repetitions: Tensor, mask: Any = None, *, weights: Tensor | None = None) -> Tensor:
    """An estimate of the `brain_correlation` of a perfect prediction, from how much repetitions agree.

    Across voxels there is no ceiling in closed form: it depends on how an image's signal is spread over the voxels, of
    which ncsnr says nothing. So it is estimated: for each image sqrt(R r / (1 + (R - 1) r)), where r is the mean
    correlation across voxels of two of its repetitions, 0 where negative, and R is how many repetitions the measured
    betas average (Spearman and Brown). Noise that repetitions share raises it, and few voxels scatter it. In a
    simulation nothing need be estimated: the noise-free responses, scored as a prediction, are the ceiling.

    Args:
        repetitions: `(N, R, V)`; a response that stands more than once for want of others counts once.
        mask: `(V,)` bool, the voxels of a region; None for all.
        weights: `(N, R)`, share of each response in the measured betas; equal ones where None.

    Returns:
        Scalar float64 in [0, 1], the mean over the images that have two different responses.

    Raises:
        UserError: if no image has, or for fewer than two voxels.
    """
    each = ceiling_between_repetitions_of_each(repetitions, mask, weights=weights)
    if each.isnan().all():
        raise UserError("no image was shown twice", expected="two repetitions or more, to see how well they agree")
    return each.nanmean()


def ceiling_between_repetitions_of_each(
    repetitions: Tensor, mask: Any = None, *, weights: Tensor | None = None
) -> Tensor:
    """As `ceiling_between_repetitions`, of each image: `(N,)` float64, NaN where an image was shown once."""
    chosen = chosen_voxels(mask, repetitions)
    total, pairs = torch.zeros(2, len(repetitions), dtype=torch.float64, device=repetitions.device)
    for i in range(repetitions.shape[1]):
        for j in range(i):
            apart = (repetitions[:, i] != repetitions[:, j]).any(1)
            total += apart * correlation_of_each(repetitions[:, i, chosen], repetitions[:, j, chosen])
            pairs += apart
    agreement = (total / pairs).clamp_min(0)  # NaN without a pair
    averaged = effective_repetitions(repetitions, weights)
    return (averaged * agreement / (1 + (averaged - 1) * agreement)).sqrt()


def chosen_voxels(mask: Any, betas: Tensor, *, at_least: int = 2) -> Tensor:
    """Indices `(v,)` int64 of the voxels of a region, on the betas' device.

    Args:
        mask: `(V,)` bool; None for all.
        betas: `(..., V)`.
        at_least: voxels that are needed.

    Raises:
        UserError: if there are fewer.
    """
    num_voxels = betas.shape[-1]
    indices = torch.arange(num_voxels, device=betas.device)
    if mask is not None:
        mask = torch.as_tensor(mask, device=betas.device)
        assert mask.dtype == torch.bool, mask.dtype
        assert mask.shape == (num_voxels,), f"a mask of {tuple(mask.shape)} for {num_voxels} voxels"
        indices = indices[mask]
    if len(indices) < at_least:
        raise UserError("too few voxels to correlate", got=len(indices), expected=f"{at_least} or more")
    return indices
