"""Agreement of betas predicted from reconstructions with the measured betas (MindEye2, spec section 10).

Two metrics share this name in the literature. The published one correlates across the voxels of an image: is the
pattern right? The other correlates across the images of a voxel: does the voxel tell images apart? Only the second has
a noise ceiling in closed form.

Legend: N images, V voxels, v voxels of a region, R repetitions of an image.
"""

from collections.abc import Mapping
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


def brain_correlation_per_image(predicted: Tensor, measured: Tensor, mask: Any = None) -> Tensor:
    """Correlation across voxels of predicted and measured betas.

    Formula: mean over images i of corr_v(predicted[i, v], measured[i, v]), Pearson, v over the voxels of a region
    Range: -1 to 1
    Direction: higher is better.
    Chance: no single number; see the row of another test image, which is 0 if images share no pattern
    Weights: gnet; none with a ridge encoder
    Not shown: errors of the reconstruction that the encoding model does not see, and how much of a low value is noise
        of the measured betas (`ceiling_between_repetitions_per_image`). The score is biased upwards if the same
        encoding model also guided the reconstruction.
    Source: MindEye2, spec section 10

    Shape: betas predicted from the reconstructions `(N, V)`, measured ones `(N, V)`, averaged over repetitions, and a
    region's mask `(V,)` bool, None for all voxels -> `(N,)` float64; 0 for an image whose betas are constant.

    Raises:
        UserError: if the shapes differ, a beta is not finite, there is no image, or the region has fewer than two
            voxels.
    """
    predicted, measured = _checked(predicted, measured)
    chosen = select_voxels(mask, predicted)
    return correlation_per_row(predicted[:, chosen], measured[:, chosen])


def brain_correlation_by_region(predicted: Tensor, measured: Tensor, regions: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return `brain_correlation_per_image` of the regions with at least two voxels; masks `(V,)` bool by name."""
    large = {name: mask for name, mask in regions.items() if torch.as_tensor(mask).sum() >= 2}
    return {name: brain_correlation_per_image(predicted, measured, mask) for name, mask in large.items()}


def voxel_correlation_per_voxel(
    predicted: Tensor, measured: Tensor, mask: Any = None, *, ncsnr: Any = None, repetitions: Any = None
) -> Tensor:
    """Correlation across images of each voxel's predicted and measured betas.

    Formula: mean over voxels v of corr_i(predicted[i, v], measured[i, v]), Pearson; given ncsnr, each divided by its
        ceiling sqrt(ncsnr[v]^2 / (ncsnr[v]^2 + 1 / R)), without the voxels whose ceiling is below 0.1
    Range: -1 to 1; if normalised, 1 is the expected score of the noise-free response and sampling noise can exceed it
    Direction: higher is better.
    Chance: 0
    Weights: gnet; none with a ridge encoder
    Not shown: whether the voxels together form the right pattern (each voxel's mean and scale are removed), the
        excluded voxels, and what the encoding model cannot predict even from the true image.
    Source: MindEye2, spec section 10, which has the other form only; ceiling of the NSD data paper

    Shape: betas and mask as of `brain_correlation_per_image`, N > 1; ncsnr `(V,)` of all voxels, or None, which leaves
    the correlations unnormalised; R, one number or `(N,)`, that the measured betas average, required with ncsnr ->
    `(v,)` float64; NaN for excluded voxels.

    Raises:
        UserError: as `brain_correlation_per_image`; also for a single image, or if all voxels are excluded.
    """
    predicted, measured = _checked(predicted, measured, at_least=2)
    chosen = select_voxels(mask, predicted, at_least=1)
    blocks = chosen.split(_VOXELS_PER_BLOCK)
    each = [correlation_per_row(predicted[:, block].T, measured[:, block].T) for block in blocks]
    return torch.cat(each) / _ceilings(chosen, predicted, ncsnr, repetitions)


def _ceilings(chosen: Tensor, betas: Tensor, ncsnr: Any, repetitions: Any) -> Tensor:
    """Return the divisors of the correlations, `(v,)`: NaN below `MIN_CEILING`, 1 without ncsnr."""
    if ncsnr is None:
        return torch.ones(len(chosen), dtype=torch.float64, device=chosen.device)
    assert repetitions is not None, "ncsnr needs repetitions: the ceiling depends on how many were averaged"
    assert len(ncsnr) == betas.shape[1], f"ncsnr of {len(ncsnr)} voxels for betas of {betas.shape[1]} voxels"
    ceilings = noise_ceiling(ncsnr, repetitions).to(chosen.device)[chosen]
    high = ceilings >= MIN_CEILING
    if not high.any():
        got = f"highest noise ceiling {ceilings.max():.3f}"
        raise UserError("every voxel's noise ceiling is too low", got=got, expected=f"at least {MIN_CEILING:g}")
    return torch.where(high, ceilings, torch.nan)


def _checked(predicted: Tensor, measured: Tensor, *, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Check both inputs and return them on the device of `predicted`."""
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
            raise UserError(f"{what} betas of image {index} contain NaN or infinity", expected="finite numbers")
    return predicted, measured.to(predicted.device)
