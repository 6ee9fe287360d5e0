"""How well betas predicted from reconstructions agree with the measured ones (MindEye2, spec section 10).

Two questions share a name in the literature. `brain_correlation`, the published one, correlates across the voxels of a
image: is the pattern right? `voxel_correlation` correlates across the images of a voxel: does the voxel tell the
images apart? Only the second has a noise ceiling in closed form.

Legend: B batch, N images, V voxels, v voxels of a region, R repetitions of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.identification import correlation_of_each
from mindeye_pl.metrics.noise_ceiling import chosen_voxels, noise_ceiling

#: Voxels with a lower ceiling do not count in normalised scores: their quotients are noise more than anything.
MIN_CEILING = 0.1
#: Voxels correlated at once, so that copies in float64 stay small.
_VOXELS_AT_ONCE = 4096


def brain_correlation(
    predicted: Tensor, measured: Tensor, mask: Any = None, *, names: Sequence[str] | None = None
) -> Tensor:
    """Correlation across voxels of predicted and measured betas, averaged over images.

    Formula: mean over images i of corr_v(predicted[i, v], measured[i, v]), Pearson, v over the voxels of a region
    Range: -1 to 1
    Direction: higher is better.
    Chance: no one number; the row of another test image stands for it, and is 0 where images share no pattern
    Weights: gnet; none with a ridge encoder
    Not shown: whether a reconstruction is right in what the encoding model does not see, and how much of a low value
        is noise of the measured betas (`noise_ceiling.ceiling_between_repetitions`). An encoding model that also guided
        the reconstruction flatters it.
    Source: MindEye2, spec section 10

    Args:
        predicted: `(N, V)` betas that the encoding model gives for the reconstructions.
        measured: `(N, V)` betas of the same images, averaged over repetitions.
        mask: `(V,)` bool, the voxels of a region; None for all.
        names: N names of images for messages; their places stand for them where None.

    Returns:
        Scalar float64.

    Raises:
        UserError: for betas of unlike shape or that are not finite, no image, or fewer than two voxels.
    """
    return brain_correlation_of_each(predicted, measured, mask, names=names).mean()


def brain_correlation_of_each(
    predicted: Tensor, measured: Tensor, mask: Any = None, *, names: Sequence[str] | None = None
) -> Tensor:
    """As `brain_correlation`, of each image: `(N,)` float64; a beta that is the same in all voxels is unrelated."""
    predicted, measured = _checked(predicted, measured, names)
    chosen = chosen_voxels(mask, predicted)
    return correlation_of_each(predicted[:, chosen], measured[:, chosen])


def brain_correlation_by_region(
    predicted: Tensor, measured: Tensor, regions: Mapping[str, Any], *, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """`brain_correlation_of_each` by region, `(N,)` float64 each; a region of fewer than two voxels is left out.

    Args:
        predicted: as in `brain_correlation`, as `measured` and `names`.
        measured: see there.
        regions: masks `(V,)` bool by name.
        names: see there.
    """
    masks = {name: torch.as_tensor(mask) for name, mask in regions.items()}
    return {
        name: brain_correlation_of_each(predicted, measured, mask, names=names)
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
    Range: -1 to 1; normalised, 1 is what the noise-free response scores on average, and chance can carry it beyond
    Direction: higher is better.
    Chance: 0
    Weights: gnet; none with a ridge encoder
    Not shown: whether the voxels together form the right pattern, as each one's mean and scale are taken out; the
        voxels that were left out; what the encoding model could not predict from the true image either.
    Source: MindEye2, spec section 10, which has the other form only; ceiling of the NSD data paper

    Args:
        predicted: `(N, V)`, as in `brain_correlation`; N > 1.
        measured: `(N, V)`, see there.
        mask: see there.
        ncsnr: `(V,)` signal-to-noise ratio of all V voxels; None leaves correlations as they are.
        repetitions: R, one number or `(N,)`, that `measured` averages; needed with `ncsnr`.
        min_ceiling: in [0, 1], the lowest ceiling of a voxel that counts.
        names: see there.

    Returns:
        Scalar float64.

    Raises:
        UserError: as `brain_correlation`, for a single image, or where no voxel's ceiling is high enough.
    """
    return voxel_correlation_of_each(
        predicted, measured, mask, ncsnr=ncsnr, repetitions=repetitions, min_ceiling=min_ceiling, names=names
    ).nanmean()


def voxel_correlation_of_each(
    predicted: Tensor,
    measured: Tensor,
    mask: Any = None,
    *,
    ncsnr: Any = None,
    repetitions: Any = None,
    min_ceiling: float = MIN_CEILING,
    names: Sequence[str] | None = None,
) -> Tensor:
    """As `voxel_correlation`, of each voxel of the region: `(v,)` float64, NaN where it does not count."""
    predicted, measured = _checked(predicted, measured, names, at_least=2)
    chosen = chosen_voxels(mask, predicted, at_least=1)
    each = [correlation_of_each(predicted[:, block].T, measured[:, block].T) for block in chosen.split(_VOXELS_AT_ONCE)]
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
    """What each image adds to `voxel_correlation`, `(N,)` float64: the values for intervals and paired tests.

    Every voxel's correlation is over all images, so there is no score of one image. With x and y the two betas of a
    voxel as z-scores over images and r their correlation, an image adds r + x y - r (x^2 + y^2) / 2, averaged over
    voxels. The mean of these is the score, and the spread of their mean that of the score over new images, to first
    order (the influence function of a correlation).

    Args:
        predicted: as in `voxel_correlation`, as all that follow.
        measured: see there.
        mask: see there.
        ncsnr: see there.
        repetitions: see there.
        min_ceiling: see there.
        names: see there.
    """
    predicted, measured = _checked(predicted, measured, names, at_least=2)
    chosen = chosen_voxels(mask, predicted, at_least=1)
    ceilings = _ceilings(chosen, predicted, ncsnr, repetitions, min_ceiling)  # (v,)
    total = torch.zeros(len(predicted), dtype=torch.float64, device=predicted.device)
    for block, ceiling in zip(chosen.split(_VOXELS_AT_ONCE), ceilings.split(_VOXELS_AT_ONCE), strict=True):
        x, y = _zscored(predicted[:, block]), _zscored(measured[:, block])  # (N, block)
        r = (x * y).mean(0)
        total += ((r + x * y - r * (x.square() + y.square()) / 2) / ceiling).nansum(1)
    return total / (~ceilings.isnan()).sum()


def _zscored(betas: Tensor) -> Tensor:
    """Over the first axis, by the population's standard deviation, in float64; constant columns become 0."""
    centred = betas.double() - betas.double().mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-12)


def _ceilings(chosen: Tensor, betas: Tensor, ncsnr: Any, repetitions: Any, lowest: float) -> Tensor:
    """What the correlations of the chosen voxels are divided by, `(v,)`: NaN where too low, 1 without ncsnr."""
    if ncsnr is None:
        return torch.ones(len(chosen), dtype=torch.float64, device=chosen.device)
    assert repetitions is not None, "the ceiling depends on how many repetitions were averaged"
    assert len(ncsnr) == betas.shape[1], f"ncsnr of {len(ncsnr)} voxels for {betas.shape[1]}"
    ceilings = noise_ceiling(ncsnr, repetitions).to(chosen.device)[chosen]
    high = (ceilings >= lowest) & (ceilings > 0)
    if not high.any():
        raise UserError(
            "no voxel's noise ceiling is high enough",
            got=f"{ceilings.max():.3f} at most",
            expected=f"min_ceiling={lowest:g} or more",
        )
    return torch.where(high, ceilings, torch.nan)


def _checked(
    predicted: Tensor, measured: Tensor, names: Sequence[str] | None, *, at_least: int = 1
) -> tuple[Tensor, Tensor]:
    """Both, on the device of the predicted betas.

    Raises:
        UserError: see `brain_correlation`.
    """
    if predicted.ndim != 2 or predicted.shape != measured.shape:
        raise UserError(
            "predicted and measured betas do not fit each other",
            got=f"{tuple(predicted.shape)} and {tuple(measured.shape)}",
            expected="(images, voxels), the same for both",
            fix="an encoding model of this subject's voxels, and one reconstruction for each image",
        )
    if len(predicted) < at_least:
        raise UserError("too few images to correlate", got=len(predicted), expected=f"{at_least} or more")
    for what, betas in (("predicted", predicted), ("measured", measured)):
        finite = betas.isfinite().all(1)
        if not finite.all():
            place = int((~finite).nonzero()[0])
            name = place if names is None else names[place]
            raise UserError(f"image {name!r} of the {what} betas holds NaN or infinity", expected="finite numbers")
    return predicted, measured.to(predicted.device)
