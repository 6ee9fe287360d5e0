"""Reconstructions beside the seen pictures: scores of each picture, and their null rows.

Legend: N pairs of reconstruction and picture, H and W picture size.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.metrics.identification import two_way_of_each
from mindeye_pl.metrics.intervals import bootstrap_interval
from mindeye_pl.metrics.pixels import pixcorr_of_each, ssim_of_each
from mindeye_pl.metrics.score import Score

PIXCORR, SSIM, CLIP_TWO_WAY = "pixcorr", "ssim", "clip_two_way"
METRICS = (PIXCORR, SSIM, CLIP_TWO_WAY)


def score_each(
    reconstructions: Tensor, pictures: Tensor, *, features: Callable[[Tensor], Tensor], size: int | None
) -> dict[str, np.ndarray]:
    """PixCorr, SSIM and two-way identification of each picture.

    Args:
        reconstructions: `(N, 3, H, W)` float32 in [0, 1].
        pictures: the same of the seen pictures.
        features: pictures to `(N, F)`, for identification.
        size: side in pixels to which PixCorr and SSIM resize; None leaves the pictures as they are.

    Returns:
        `(N,)` float64 by name.
    """
    identified = two_way_of_each(query=features(reconstructions), gallery=features(pictures))
    values = {
        PIXCORR: pixcorr_of_each(reconstructions, pictures, size=size),
        SSIM: ssim_of_each(reconstructions, pictures, size=size),
        CLIP_TWO_WAY: identified,
    }
    return {name: value.cpu().numpy() for name, value in values.items()}


def scores_of(values: Mapping[str, np.ndarray], *, num_resamples: int = 2000, seed: int = 0) -> list[Score]:
    """Means over pictures with their 95 % intervals, from `score_each`; PixCorr and SSIM have no chance level."""
    return [
        Score(
            name,
            value=float(each.mean()),
            chance=0.5 if name == CLIP_TWO_WAY else None,
            pool_size=2 if name == CLIP_TWO_WAY else None,
            num_pictures=len(each),
            interval=bootstrap_interval(each, num_resamples=num_resamples, seed=seed),
        )
        for name, each in values.items()
    ]


def derangement(count: int, seed: int) -> Tensor:
    """An order of `count` things, `(count,)` int64, in which none keeps its place."""
    assert count > 1, count
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        if (order != torch.arange(count)).all():
            return order
