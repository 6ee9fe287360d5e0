"""Distances between the network features of two sets of images: FID and KID.

Legend: N images, M images of the reference set, F features per image.
"""

from math import sqrt

import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.statistics.score import Score

#: Number of images below which KID stands beside FID.
MIN_IMAGES_FOR_FID = 500


def fid(features: Tensor, reference_features: Tensor) -> Tensor:
    """Fréchet distance of two Gaussians fitted to the features of two sets of images.

    Formula: |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), m the means and C the covariances over images
    Range: 0 upwards
    Direction: lower is better.
    Chance: no single number; see the row of other images, FID's floor: two disjoint samples of the data set's images
        without the test images, each as large as the test set if there are enough
    Weights: fid_inception; values of other feature networks are not comparable
    Not shown: whether any image matches its brain: shuffled reconstructions score the same, so that permutations have
        no FID. FID is biased upwards, more so for fewer images: compare only sets of equal size with the same network
        and reference set, never 1,000 images with a published number of 30,000, and read KID below 500 images. Images
        of the reference set's own scenes can score below the floor, which is of two samples of scenes.
    Source: Heusel et al. 2017; Mind Reader, spec section 8

    Shape: `(N, F)`, `(M, F)` -> float64 scalar.

    Raises:
        UserError: for a set of fewer than two images.
    """
    first, second = _checked(features, reference_features, "FID")
    means = (first.mean(0) - second.mean(0)).square().sum()
    roots = [_root_of_covariance(rows) for rows in (first, second)]  # (n, F) with root^T root = C
    spread = sum(root.square().sum() for root in roots)
    # tr (C_1 C_2)^(1/2) is the nuclear norm of root_1 root_2^T, which avoids the square root of a singular matrix.
    return (means + spread - 2 * torch.linalg.matrix_norm(roots[0] @ roots[1].T, ord="nuc")).clamp_min(0)


def _root_of_covariance(rows: Tensor) -> Tensor:
    """Return R with R^T R = covariance of `rows`, with at most as many rows as columns."""
    centred = (rows - rows.mean(0)) / sqrt(len(rows) - 1)
    return torch.linalg.qr(centred, mode="r").R if len(rows) > rows.shape[1] else centred


def kid(features: Tensor, reference_features: Tensor, *, paired: bool = False) -> Tensor:
    """Squared maximum mean discrepancy of the features of two sets of images, without the bias of FID.

    Formula: mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j), with
        k(x, y) = (x.y / F + 1)^3; tables show 1000 times this. If x_i is a reconstruction of y_i, the last mean is over
        i != j too: with the pairs it would be below 0 for good reconstructions.
    Range: about 0 upwards; sampling noise of equal distributions is below 0 as often as above
    Direction: lower is better.
    Chance: no single number; see the row of other images, whose expectation is 0
    Weights: fid_inception; values of other feature networks are not comparable
    Not shown: whether any image matches its brain, as for FID; how much of a small value is sampling noise.
    Source: Bińkowski et al. 2018, Demystifying MMD GANs, as torchmetrics' KernelInceptionDistance with all images in
        one subset; for pairs Gretton et al. 2012, A Kernel Two-Sample Test, lemma 6

    Shape: `(N, F)`, `(M, F)`, N = M if paired -> float64 scalar.

    Raises:
        UserError: for a set of fewer than two images.
    """
    first, second = _checked(features, reference_features, "KID")
    between = _kernel(first, second)
    within = sum(_mean_of_others(_kernel(rows, rows)) for rows in (first, second))
    return within - 2 * (_mean_of_others(between) if paired else between.mean())


def _checked(features: Tensor, reference_features: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return both as float64 `(N, F)`."""
    assert features.shape[1:] == reference_features.shape[1:], f"{features.shape[1:]}, {reference_features.shape[1:]}"
    if (fewest := min(len(features), len(reference_features))) < 2:
        raise UserError(f"too few images for {name}", got=fewest, expected="at least 2 per set")
    return features.flatten(1).double(), reference_features.flatten(1).double()


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_of_others(kernel: Tensor) -> Tensor:
    """Return the mean of a square matrix without its diagonal."""
    return (kernel.sum() - kernel.diagonal().sum()) / (len(kernel) * (len(kernel) - 1))


def set_scores(
    features: Tensor, reference_features: Tensor, names: tuple[str, str], *, paired: bool = False
) -> list[Score]:
    """Return FID as a `Score`, and 1000 times KID if a set has fewer than `MIN_IMAGES_FOR_FID` images, by these names.

    In paired sets, image i of the first set is drawn from image i of the second one or from its brain.

    They have no interval: a bootstrap draws images repeatedly, which biases FID upwards.
    """
    values = [float(fid(features, reference_features))]
    if min(len(features), len(reference_features)) < MIN_IMAGES_FOR_FID:
        values.append(1000 * float(kid(features, reference_features, paired=paired)))
    num = len(features)
    return [Score(name, v, None, None, num, higher_is_better=False) for name, v in zip(names, values, strict=False)]
