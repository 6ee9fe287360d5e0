"""Noise ceiling: the agreement with noisy measured betas that a perfect prediction reaches (NSD data paper).

Legend: N images, V voxels, R repetitions of an image.
"""

from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import correlation_per_row


def noise_ceiling(ncsnr: Any, repetitions: Any) -> Tensor:
    """Return the highest expected correlation across images of any prediction with each voxel's measured betas.

    sqrt(ncsnr^2 / (ncsnr^2 + 1/R)) for the mean of R repetitions; if images differ in R, the mean of their 1/R replaces
    1/R. It is the expected score of the noise-free response over many images. ncsnr `(V,)` is the standard deviation of
    the signal over that of one trial's noise; it may be infinite. R is one number or `(N,)`, of weighted averages the
    `effective_repetitions`.
    """
    ratio = torch.as_tensor(ncsnr).double()
    noise = (1 / torch.as_tensor(repetitions).double()).mean().to(ratio.device)
    return (1 / (1 + noise / ratio.square())).sqrt()  # this form has the right limits at 0 and infinity


def estimate_ncsnr(betas: Any, stimulus_ids: Any) -> Tensor:
    """Estimate each voxel's noise-ceiling signal-to-noise ratio from repeated presentations (NSD data paper).

    The noise's variance is that of the responses to one image, pooled over the images with repetitions. The signal's is
    the variance of all responses less the noise's, 0 if negative. NSD computes it on betas that are z-scored within
    each session, since changes between sessions count as noise or signal otherwise.

    Shape: betas `(n, V)` of all trials, stimulus ids `(n,)` -> `(V,)` float64; infinite without noise, NaN for a voxel
    that is constant.
    """
    values = torch.as_tensor(betas).double()
    _, image, counts = torch.unique(torch.as_tensor(stimulus_ids), return_inverse=True, return_counts=True)
    assert counts.max() > 1, "no image was presented twice"
    sums = torch.zeros(len(counts), values.shape[1], dtype=torch.float64).index_add_(0, image, values)
    deviations = values - (sums / counts[:, None])[image]
    noise = deviations.square().sum(0) / (counts - 1).sum()
    signal = (values.var(0) - noise).clamp_min(0)
    return (signal / noise).sqrt()


def effective_repetitions(repetitions: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the number of equally weighted repetitions with the same noise as each image's measured betas.

    A response that occurs more than once has its noise once: the published average of a, a and b is worth 1.8.

    Shape: `(N, R, V)`, weights `(N, R)` of the average, rows summing to 1 -> `(N,)` float64, between 1 and R.
    """
    count = repetitions.shape[1]
    weights = torch.full(repetitions.shape[:2], 1 / count) if weights is None else weights
    weights = weights.to(repetitions.device, torch.float64)
    noise = torch.zeros(len(repetitions), dtype=torch.float64, device=repetitions.device)
    for i in range(count):
        for j in range(count):
            same = (repetitions[:, i] == repetitions[:, j]).all(1)
            noise += weights[:, i] * weights[:, j] * same
    return 1 / noise


def ceiling_between_repetitions_per_image(
    repetitions: Tensor, mask: Any = None, *, weights: Tensor | None = None
) -> Tensor:
    """Estimate the brain correlation of a perfect prediction from the agreement of repetitions.

    Across voxels there is no ceiling in closed form: it depends on how an image's signal is distributed over the
    voxels, which ncsnr does not determine. The estimate for each image is sqrt(R r / (1 + (R - 1) r)), where r is the
    mean correlation across voxels of two of its repetitions, 0 if negative, and R is the number of repetitions that the
    measured betas average (Spearman and Brown). Noise shared by repetitions biases it upwards; few voxels increase its
    variance. In a simulation, score the noise-free responses as a prediction instead.

    Shape: repetitions `(N, R, V)`, where copies of a response that pad a short row count once, a region's mask `(V,)`
    bool, weights `(N, R)` of the responses in the measured betas -> `(N,)` float64 in [0, 1]; NaN for a single one.

    Raises:
        UserError: for fewer than two voxels.
    """
    chosen = select_voxels(mask, repetitions)
    total, pairs = torch.zeros(2, len(repetitions), dtype=torch.float64, device=repetitions.device)
    for i in range(repetitions.shape[1]):
        for j in range(i):
            apart = (repetitions[:, i] != repetitions[:, j]).any(1)
            total += apart * correlation_per_row(repetitions[:, i, chosen], repetitions[:, j, chosen])
            pairs += apart
    agreement = (total / pairs).clamp_min(0)  # NaN without a pair
    averaged = effective_repetitions(repetitions, weights)
    return (averaged * agreement / (1 + (averaged - 1) * agreement)).sqrt()


def select_voxels(mask: Any, betas: Tensor, *, at_least: int = 2) -> Tensor:
    """Return the indices `(v,)` int64 of the voxels of a region on the betas' device, given its mask `(V,)` bool.

    Raises:
        UserError: if the region has fewer voxels than `at_least`.
    """
    num_voxels = betas.shape[-1]
    indices = torch.arange(num_voxels, device=betas.device)
    if mask is not None:
        mask = torch.as_tensor(mask, device=betas.device)
        assert mask.dtype == torch.bool, mask.dtype
        assert mask.shape == (num_voxels,), f"mask of shape {tuple(mask.shape)} for {num_voxels} voxels"
        indices = indices[mask]
    if len(indices) < at_least:
        raise UserError("too few voxels to correlate", got=len(indices), expected=f"at least {at_least}")
    return indices
