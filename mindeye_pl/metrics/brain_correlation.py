"""Agreement of betas predicted from reconstructions with the measured betas (MindEye2, spec section 10).

Two metrics share this name in the literature. `brain_correlation`, the published one, correlates across the voxels of
an image: is the pattern right? `voxel_correlation` correlates across the images of a voxel: does the voxel tell images
apart? Only the second has a noise ceiling in closed form.

Legend: B batch, N images, V voxels, v voxels of a region, R repetitions of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import correlation_per_row
from mindeye_pl.metrics.noise_ceiling import noise_ceiling, select_voxels

#: Voxels with a lower noise ceiling are left out of normalised scores: dividing by it would mostly amplify noise.
MIN_CEILING = 0.1
#: Voxels correlated per block, which bounds the memory of the float64 copies.
_VOXELS_PER_BLOCK = 4096


def brain_correlation(
    predicted: Tensor, measured: Tensor, mask: Any = None, *, names: Sequence[str] | None = None
) -> Tensor:
    """Correlation across voxels of predicted and measured betas, averaged over images.

    Formula: mean over images i of corr_v(predicted[i, v], measured[i, v]), Pearson, v over the voxels of a region
    Range: -1 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image, which is 0 if images share no pattern
    Weights: gnet; none with a ridge encoder
    Not shown: errors of the reconstruction that the encoding model does not see, and how much of a low value is noise
        of the measured betas (`noise_ceiling.ceiling_between_repetitions`). The score is biased upwards if the same
        encoding model also guided the reconstruction.
    Source: MindEye2, spec section 10

    Args:
        predicted: `(N, V)` betas predicted from the reconstructions.
        measured: `(N, V)` betas of the same images, averaged over repetitions.
        mask: `(V,)` bool, the voxels of a region; None for all.
        names: N image names for error messages; indices if None.

    Returns:
        Scalar float64.

    Raises:
        UserError: if the shapes differ, a beta is not finite, there is no image, or the region has fewer than two
            voxels.
    """
    return brain_correlation_per_image(predicted, measured, mask, names=names).mean()


def brain_correlation_per_image(
    predicted: Tensor, measured: Tensor, mask: Any = None, *, names: Sequence[str] | None = None
) -> Tensor:
    """Per-image `brain_correlation`, `(N,)` float64; 0 for an image whose betas are constant over voxels."""
    predicted, measured = _checked(predicted, measured, names)
    chosen = select_voxels(mask, predicted)
    return correlation_per_row(predicted[:, chosen], measured[:, chosen])


def brain_correlation_by_region(
    predicted: Tensor, measured: Tensor, regions: Mapping[str, Any], *, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Per-image `brain_correlation` by region, `(N,)` float64 each; regions with fewer than two voxels are left out.

    Args:
        predicted: `(N, V)` predicted betas.
        measured: `(N, V)` measured betas.
        regions: masks `(V,)` bool by name.
        names: N image names for error messages.
    """
    masks = {name: torch.as_tensor(mask) for name, mask in regions.items()}
    return {
        name: brain_correlation_per_image(predicted, measured, mask, names=names)
        for name, mask in masks.items()
        if mask.sum() >= 2
    }


def voxel_correlation(
    predicted: Tensor,
    measured: Tensor,
    mask: Any = None,
    *,
    ncsnr: Any = None,
    repetitions: Any = None,
    min_ceiling: float = MIN_CEILING,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Correlation across images of each voxel's predicted and measured betas, averaged over voxels.

    Formula: mean over voxels v of corr_i(predicted[i, v], measured[i, v]), Pearson; given ncsnr, each divided by its
        ceiling sqrt(ncsnr[v]^2 / (ncsnr[v]^2 + 1 / R)), without the voxels whose ceiling is below `min_ceiling`
    Range: -1 to 1; if normalised, 1 is the expected score of the noise-free response and sampling noise can exceed it
    Direction: higher is better.
    Chance: 0
    Weights: gnet; none with a ridge encoder
    Not shown: whether the voxels together form the right pattern (each voxel's mean and scale are removed), the
        excluded voxels, and what the encoding model cannot predict even from the true image.
    Source: MindEye2, spec section 10, which has the other form only; ceiling of the NSD data paper

    Args:
        predicted: `(N, V)` betas predicted from the reconstructions, N > 1.
        measured: `(N, V)` betas of the same images, averaged over repetitions.
        mask: `(V,)` bool, the voxels of a region; None for all.
        ncsnr: `(V,)` signal-to-noise ratio of all V voxels; None leaves the correlations unnormalised.
        repetitions: R, one number or `(N,)`, that `measured` averages; required with `ncsnr`.
        min_ceiling: in [0, 1], the lowest ceiling of a voxel that counts.
        names: N image names for error messages.

    Returns:
        Scalar float64.

    Raises:
        UserError: as `brain_correlation`; also for a single image, or if no voxel reaches `min_ceiling`.
    """
    return voxel_correlation_per_voxel(
        predicted, measured, mask, ncsnr=ncsnr, repetitions=repetitions, min_ceiling=min_ceiling, names=names
    ).nanmean()


def voxel_correlation_per_voxel(
    predicted: Tensor,
    measured: Tensor,
    mask: Any = None,
    *,
    ncsnr: Any = None,
    repetitions: Any = None,
    min_ceiling: float = MIN_CEILING,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Per-voxel `voxel_correlation` of the region, `(v,)` float64; NaN for excluded voxels."""
    predicted, measured = _checked(predicted, measured, names, at_least=2)
    chosen = select_voxels(mask, predicted, at_least=1)
    each = [
        correlation_per_row(predicted[:, block].T, measured[:, block].T) for block in chosen.split(_VOXELS_PER_BLOCK)
    ]
    return torch.cat(each) / _ceilings(chosen, predicted, ncsnr, repetitions, min_ceiling)


def voxel_correlation_influence(
    predicted: Tensor,
    measured: Tensor,
    mask: Any = None,
    *,
    ncsnr: Any = None,
    repetitions: Any = None,
    min_ceiling: float = MIN_CEILING,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Contribution of each image to `voxel_correlation`, `(N,)` float64, for intervals and paired tests.

    Every voxel's correlation is over all images, so a single image has no score. With x and y the two betas of a voxel
    as z-scores over images and r their correlation, an image contributes r + x y - r (x^2 + y^2) / 2, averaged over
    voxels. The mean of the contributions is the score, and the standard error of their mean is, to first order, that of
    the score over new images (the influence function of a correlation). Arguments as `voxel_correlation`.
    """
    predicted, measured = _checked(predicted, measured, names, at_least=2)
    chosen = select_voxels(mask, predicted, at_least=1)
    ceilings = _ceilings(chosen, predicted, ncsnr, repetitions, min_ceiling)  # (v,)
    total = torch.zeros(len(predicted), dtype=torch.float64, device=predicted.device)
    for block, ceiling in zip(chosen.split(_VOXELS_PER_BLOCK), ceilings.split(_VOXELS_PER_BLOCK), strict=True):
        x, y = _zscored(predicted[:, block]), _zscored(measured[:, block])  # (N, block)
        r = (x * y).mean(0)
        total += ((r + x * y - r * (x.square() + y.square()) / 2) / ceiling).nansum(1)
    return total / (~ceilings.isnan()).sum()


def _zscored(betas: Tensor) -> Tensor:
    """Z-score columns in float64, with the population's standard deviation; constant columns become 0."""
    centred = betas.double() - betas.double().mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-12)


def _ceilings(chosen: Tensor, betas: Tensor, ncsnr: Any, repetitions: Any, lowest: float) -> Tensor:
    """Return the divisors of the correlations, `(v,)`: NaN below the lowest ceiling, 1 without ncsnr."""
    if ncsnr is None:
        return torch.ones(len(chosen), dtype=torch.float64, device=chosen.device)
    assert repetitions is not None, "ncsnr needs repetitions: the ceiling depends on how many were averaged"
    assert len(ncsnr) == betas.shape[1], f"ncsnr of {len(ncsnr)} voxels for betas of {betas.shape[1]} voxels"
    ceilings = noise_ceiling(ncsnr, repetitions).to(chosen.device)[chosen]
    high = (ceilings >= lowest) & (ceilings > 0)
    if not high.any():
        raise UserError(
            "every voxel's noise ceiling is below min_ceiling",
            got=f"highest noise ceiling {ceilings.max():.3f}",
            expected=f"at least {lowest:g}",
            fix="use a lower min_ceiling",
        )
    return torch.where(high, ceilings, torch.nan)


def _checked(
    predicted: Tensor, measured: Tensor, names: Sequence[str] | None, *, at_least: int = 1
) -> tuple[Tensor, Tensor]:
    """Check both inputs and return them on the device of `predicted`; raises the errors of `brain_correlation`."""
    if predicted.ndim != 2 or predicted.shape != measured.shape:
        raise UserError(
            "predicted and measured betas differ in shape",
            got=f"{tuple(predicted.shape)} and {tuple(measured.shape)}",
            expected="the same (images, voxels) for both",
            fix="use an encoding model of this subject's voxels, and one reconstruction per image",
        )
    if len(predicted) < at_least:
        raise UserError("too few images to correlate", got=len(predicted), expected=f"at least {at_least}")
    for what, betas in (("predicted", predicted), ("measured", measured)):
        finite = betas.isfinite().all(1)
        if not finite.all():
            index = int((~finite).nonzero()[0])
            name = index if names is None else names[index]
            raise UserError(f"{what} betas of image {name!r} contain NaN or infinity", expected="finite numbers")
    return predicted, measured.to(predicted.device)
