"""Fréchet distance between the network features of two sets of images (Heusel et al. 2017).

Legend: N images, M images of the reference set, F features per image.
"""

from math import sqrt

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import Score


def fid(features: Tensor, reference_features: Tensor) -> Tensor:
    """Fréchet distance of two Gaussians fitted to the features of two sets of images.

    Formula: |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), m the means and C the covariances over images
    Range: 0 upwards
    Direction: lower is better.
    Chance: no single number; see the row of another set of images
    Weights: fid_inception; values of other feature networks are not comparable
    Not shown: whether any image matches its brain: shuffled reconstructions score the same. FID is biased upwards, more
        so for fewer images: compare only sets of equal size with the same network and reference set, and never 1,000
        images with a published number of 30,000.
    Source: Heusel et al. 2017; Mind Reader, spec section 8

    Shape: `(N, F)`, `(M, F)` -> float64 scalar.

    Raises:
        UserError: for a set of fewer than two images.
    """
    assert features.shape[1:] == reference_features.shape[1:], f"{features.shape[1:]}, {reference_features.shape[1:]}"
    if (fewest := min(len(features), len(reference_features))) < 2:
        raise UserError("too few images for FID", got=fewest, expected="at least 2 per set")
    first, second = features.flatten(1).double(), reference_features.flatten(1).double()
    means = (first.mean(0) - second.mean(0)).square().sum()
    roots = [_root_of_covariance(rows) for rows in (first, second)]  # (n, F) with root^T root = C
    spread = sum(root.square().sum() for root in roots)
    # tr (C_1 C_2)^(1/2) is the nuclear norm of root_1 root_2^T, which avoids the square root of a singular matrix.
    return (means + spread - 2 * torch.linalg.matrix_norm(roots[0] @ roots[1].T, ord="nuc")).clamp_min(0)


def _root_of_covariance(rows: Tensor) -> Tensor:
    """Return R with R^T R = covariance of `rows`, with at most as many rows as columns."""
    centred = (rows - rows.mean(0)) / sqrt(len(rows) - 1)
    return torch.linalg.qr(centred, mode="r").R if len(rows) > rows.shape[1] else centred


def fid_score(features: Tensor, reference_features: Tensor, *, network: str, reference: str) -> Score:
    """Return `fid` as a `Score` that names the network and the reference set.

    The score has no interval: a bootstrap draws images repeatedly, which biases FID upwards.
    """
    name = f"fid_{network.removeprefix('fid_')}_to_{reference}"
    value = float(fid(features, reference_features))
    return Score(name, value, chance=None, pool_size=None, num_images=len(features), higher_is_better=False)
