"""The scores of reconstructions: which there are under a protocol, and their means with intervals.

Legend: n pairs of reconstruction and image, F features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.metrics.identification import correlation_matrix, influence_of_wins, two_way_wins
from mindeye_pl.metrics.identification import identified as identified_among
from mindeye_pl.metrics.pixels import pixcorr_of_each, ssim_of_each
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval, hit_rate_interval
from mindeye_pl.metrics.statistics.score import Interval, Score

PIXCORR, SSIM, SSIM_RGB, LPIPS, FID = "pixcorr", "ssim", "ssim_rgb", "lpips", "fid"


@dataclass(frozen=True)
class TableMetric:
    """One column of the reconstructions' table.

    Attributes:
        name: of its scores.
        title: a few letters for the head of the column.
        question: what it answers, in plain words.
        form: "share" in per cent, or "number".
        higher_is_better: its direction.
        chance: what guessing scores; None where null rows stand for it.
        pool_size: candidates that the right answer is picked from, None where nothing is picked.
        group: the table that it stands in.
    """

    name: str
    title: str
    question: str
    form: str = "number"
    higher_is_better: bool = True
    chance: float | None = None
    pool_size: int | None = None
    group: str = "Reconstructions"


PIXEL_METRICS = (
    TableMetric(PIXCORR, "PixCorr", "How alike are the pixels? Correlation, 1 is the same."),
    TableMetric(SSIM, "SSIM", "How alike is the structure of light and dark? 1 is the same."),
    TableMetric(SSIM_RGB, "SSIM (RGB)", "The same on colours, by torchmetrics."),
)


def two_way_metrics(name: str, title: str) -> tuple[TableMetric, TableMetric]:
    """Both directions of two-way identification by one network's features."""
    question = f"Is it more like the seen image than like another one, to {title}?"
    other = f"Is it more like the seen image than another reconstruction is, to {title}?"
    return (
        TableMetric(f"{name}_two_way", f"{title} 2-way", question, "share", chance=0.5, pool_size=2),
        TableMetric(f"{name}_two_way_paper", f"{title} 2-way, paper", other, "share", chance=0.5, pool_size=2),
    )


def n_way_metric(name: str, title: str, *, n: int, top_k: int) -> TableMetric:
    """Being among the `top_k` nearest of n images by one network's features."""
    which = f"among the {top_k} nearest of" if top_k > 1 else "the nearest of"
    short = f"{title} {n}-way" + (f" top {top_k}" if top_k > 1 else "")
    question = f"Is the seen image {which} {n}, to {title}?"
    return TableMetric(n_way_name(name, n, top_k), short, question, "share", chance=top_k / n, pool_size=n)


def n_way_name(name: str, n: int, top_k: int) -> str:
    """As in `clip_50_way_top5`."""
    return f"{name}_{n}_way" + (f"_top{top_k}" if top_k > 1 else "")


def distance_metric(name: str, title: str) -> TableMetric:
    """Correlation distance of one network's features."""
    question = f"How far is it from the seen image, to {title}? 0 is the same."
    return TableMetric(f"{name}_distance", title, question, higher_is_better=False)


CLIP_TWO_WAY = "clip_two_way"
BASIC_METRICS = (*PIXEL_METRICS[:2], two_way_metrics("clip", "CLIP")[0])

LPIPS_METRIC = TableMetric(
    LPIPS, "LPIPS", "How different do they look, to AlexNet's calibrated features? 0 is the same.", "number", False
)


def fid_metric(title: str) -> TableMetric:
    """The distance of whole sets, by one network's features."""
    question = f"How far are all reconstructions from all seen images, as sets, to {title}? 0 is the same."
    return TableMetric(FID, "FID", question, "number", higher_is_better=False)


@dataclass(frozen=True)
class Scored:
    """One metric of one line.

    Attributes:
        each: `(n,)` float64, of each image, for sorting and for paired tests.
        influence: `(n,)` float64 with the same mean, whose spread is that of the mean: where images are compared with
            each other an image counts also as what others are compared with.
    """

    each: np.ndarray
    influence: np.ndarray

    @classmethod
    def independent(cls, each: Tensor) -> "Scored":
        """Of images that are scored alone."""
        values = each.cpu().numpy().astype(np.float64)
        return cls(values, values)

    def plain(self) -> list[list[float]]:
        """Both as lists, for json."""
        return [self.each.tolist(), self.influence.tolist()]


def identified(correlations: Tensor) -> Scored:
    """Two-way identification of each image.

    Args:
        correlations: `(n, n)` of features, from `correlation_matrix`; rows are the fixed items.
    """
    each = identified_among(correlations, n=2)
    return Scored(each.cpu().numpy(), influence_of_wins(two_way_wins(correlations)).cpu().numpy())


def found_among(correlations: Tensor, *, n: int, top_k: int) -> Scored:
    """n-way identification of each image, the gallery taken as given; arguments as `identified`."""
    return Scored.independent(identified_among(correlations, n=n, top_k=top_k))


def score_each(
    reconstructions: Tensor, images: Tensor, *, features: Callable[[Tensor], Tensor], size: int | None
) -> dict[str, Scored]:
    """PixCorr, SSIM and two-way identification alone: what a quick look needs (`BASIC_METRICS`).

    Args:
        reconstructions: `(n, 3, H, W)` float32 in [0, 1].
        images: the same of the seen images.
        features: images to `(n, F)`, for identification.
        size: side in pixels to which PixCorr and SSIM resize; None leaves the images as they are.
    """
    return {
        PIXCORR: Scored.independent(pixcorr_of_each(reconstructions, images, size=size)),
        SSIM: Scored.independent(ssim_of_each(reconstructions, images, size=size)),
        CLIP_TWO_WAY: identified(correlation_matrix(features(reconstructions), features(images))),
    }


def scores_of(
    values: Mapping[str, Scored], metrics: Sequence[TableMetric], *, num_resamples: int = 2000, seed: int = 0
) -> list[Score]:
    """Means over images with their 95 % intervals, in the order of `metrics`; those without values are left out."""
    return [
        Score(
            metric.name,
            value=float(values[metric.name].each.mean()),
            chance=metric.chance,
            pool_size=metric.pool_size,
            num_images=len(values[metric.name].each),
            interval=_interval(metric, values[metric.name].influence, num_resamples, seed),
            higher_is_better=metric.higher_is_better,
        )
        for metric in metrics
        if metric.name in values
    ]


def _interval(metric: TableMetric, influence: np.ndarray, num_resamples: int, seed: int) -> Interval:
    """Of a mean; a share stays between none and all."""
    if metric.pool_size not in (None, 2):  # found or not found
        return hit_rate_interval(influence)
    bounds = (0.0, 1.0) if metric.form == "share" else None
    return bootstrap_interval(influence, num_resamples=num_resamples, seed=seed, bounds=bounds)


def derangement(count: int, seed: int) -> Tensor:
    """An order of `count` things, `(count,)` int64, in which none keeps its place."""
    assert count > 1, count
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        if (order != torch.arange(count)).all():
            return order
