"""Scores of reconstructions: the metrics of the table, and their means with intervals.

Legend: n pairs of reconstruction and image, F features.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.fid import MIN_IMAGES_FOR_FID
from mindeye_pl.metrics.identification import Ties, correlation_matrix, n_way_per_image, two_way_influence
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval, hit_rate_interval
from mindeye_pl.metrics.statistics.score import Interval, Score, is_hit_rate

PIXCORR, SSIM, SSIM_RGB, LPIPS, FID, KID = "pixcorr", "ssim", "ssim_rgb", "lpips", "fid", "kid"


@dataclass(frozen=True)
class TableMetric:
    """A column of the table of reconstructions."""

    name: str  # of its scores
    title: str  # short column header
    question: str  # that it answers, in plain words
    form: str = "number"  # or "percent", "integer"
    higher_is_better: bool = True
    chance: float | None = None  # score of a random guess; None if null rows replace it
    pool_size: int | None = None  # number of candidates; None if there are no candidates
    group: str = "Reconstructions"  # title of the table that contains the column
    bounded: bool = True  # draws scores on a scale from 0 to 1, else on the range of the column
    human_agreement: float | None = None  # `human_agreement.PAIRWISE_ACCURACY`; None if nobody has measured it


PIXEL_METRICS = (
    TableMetric(PIXCORR, "PixCorr", "How similar are the pixels? Correlation, 1 means identical."),
    TableMetric(SSIM, "SSIM", "How similar is the structure of light and dark? 1 means identical."),
    TableMetric(SSIM_RGB, "SSIM (RGB)", "SSIM on colour images, by torchmetrics."),
)


def two_way_metrics(name: str, title: str) -> tuple[TableMetric, TableMetric]:
    """Return the columns of two-way identification by one network's features, in both directions."""
    question = f"Is it more similar to the seen image than to another one, by {title}?"
    other = f"Is it more similar to the seen image than another reconstruction is, by {title}?"
    return (
        TableMetric(f"{name}_two_way", f"{title} 2-way", question, "percent", chance=0.5, pool_size=2),
        TableMetric(f"{name}_two_way_paper", f"{title} 2-way, paper", other, "percent", chance=0.5, pool_size=2),
    )


def n_way_metric(name: str, title: str, *, n: int, top_k: int) -> TableMetric:
    """Return the column of n-way identification by one network's features."""
    which = f"among the {top_k} nearest of" if top_k > 1 else "the nearest of"
    short = f"{title} {n}-way" + (f" top {top_k}" if top_k > 1 else "")
    question = f"Is the seen image {which} {n}, by {title}? Chance is {top_k} in {n}."
    return TableMetric(n_way_name(name, n, top_k), short, question, "percent", chance=top_k / n, pool_size=n)


def n_way_name(name: str, n: int, top_k: int) -> str:
    """Return a score name such as `clip_50_way_top5`."""
    return f"{name}_{n}_way" + (f"_top{top_k}" if top_k > 1 else "")


def distance_metric(name: str, title: str) -> TableMetric:
    """Return the column of correlation distance by one network's features."""
    question = f"How far is it from the seen image, by {title}? 0 means identical."
    return TableMetric(f"{name}_distance", title, question, higher_is_better=False)


CLIP_TWO_WAY = "clip_two_way"
BASIC_METRICS = (*PIXEL_METRICS[:2], two_way_metrics("clip", "CLIP")[0])

LPIPS_METRIC = TableMetric(
    LPIPS, "LPIPS", "How different do they look, by AlexNet's calibrated features? 0 means identical.", "number", False
)


def set_metrics(title: str, num_images: int) -> list[TableMetric]:
    """Return the columns of distances between sets, by one network's features: FID, and KID where FID is too biased."""
    question = f"How far are all reconstructions from all seen images, as sets, by {title}?"
    floor = (
        "Biased upwards: two samples of other images of the data set, without the test images and as many, have the "
        "value of the row of other images."
    )
    unbiased = f"Unbiased, for sets of fewer than {MIN_IMAGES_FOR_FID} images: 0 on average for the same distribution."
    metrics = [TableMetric(FID, "FID", f"{question} {floor}", higher_is_better=False, bounded=False)]
    if num_images < MIN_IMAGES_FOR_FID:
        metrics.append(TableMetric(KID, "1000 KID", f"{question} {unbiased}", higher_is_better=False, bounded=False))
    return metrics


def metric_of_function(name: str, function: Callable[..., Tensor]) -> TableMetric:
    """Return the column of a user's function: its docstring begins with the question that it answers.

    Raises:
        UserError: if the docstring has no line `Direction: higher is better.` or `Direction: lower is better.`
    """
    text = inspect.getdoc(function) or ""
    direction = re.search(r"^Direction: (higher|lower) is better", text, re.MULTILINE)
    if direction is None:
        raise UserError(
            f"the docstring of the metric {name} does not say which scores are better",
            got=f"{function.__module__}.{function.__qualname__}",
            expected="a line `Direction: higher is better.` or `Direction: lower is better.`",
        )
    question = " ".join(text.partition("\n\n")[0].split())
    return TableMetric(name, name, question, higher_is_better=direction[1] == "higher", bounded=False)


@dataclass(frozen=True)
class Scored:
    """Per-image values of one metric in one table row.

    The influence is for intervals: the standard error of its mean is that of the score, including each image's role as
    a distractor of the others.
    """

    each: np.ndarray  # (n,) float64, score of each image, for sorting and paired tests
    influence: np.ndarray  # (n,) float64, contributions to the mean

    @classmethod
    def independent(cls, each: Tensor) -> "Scored":
        """Wrap scores `(n,)` of images that are scored independently of each other."""
        values = each.cpu().numpy().astype(np.float64)
        return cls(values, values)

    def plain(self) -> list[list[float]]:
        """Return both arrays as lists, for JSON."""
        return [self.each.tolist(), self.influence.tolist()]


def score_two_way(correlations: Tensor, *, ties: Ties = "half") -> Scored:
    """Score each image by two-way identification; `correlations` `(n, n)` of features have the fixed items as rows."""
    each = n_way_per_image(correlations, n=2, ties=ties)
    return Scored(each.cpu().numpy(), two_way_influence(correlations, ties=ties).cpu().numpy())


def score_n_way(correlations: Tensor, *, n: int, top_k: int, ties: Ties = "half") -> Scored:
    """Score each image by n-way identification with a fixed gallery; `correlations` as in `n_way_per_image`."""
    return Scored.independent(n_way_per_image(correlations, n=n, top_k=top_k, ties=ties))


def score_each(
    reconstructions: Tensor, images: Tensor, *, features: Callable[[Tensor], Tensor], size: int | None
) -> dict[str, Scored]:
    """Compute PixCorr, SSIM and two-way identification by features `(n, F)` only (`BASIC_METRICS`).

    Reconstructions and seen images are `(n, 3, H, W)` float32 in [0, 1]; `size` is as of `pixcorr_per_image`.
    """
    return {
        PIXCORR: Scored.independent(pixcorr_per_image(reconstructions, images, size=size)),
        SSIM: Scored.independent(ssim_per_image(reconstructions, images, size=size)),
        CLIP_TWO_WAY: score_two_way(correlation_matrix(features(reconstructions), features(images))),
    }


def summarise_scores(
    values: Mapping[str, Scored], metrics: Sequence[TableMetric], *, num_resamples: int = 2000, seed: int = 0
) -> list[Score]:
    """Return means over images with 95 % intervals, in the order of `metrics`; metrics without values are left out."""
    scores = []
    for metric in metrics:
        if (found := values.get(metric.name)) is not None:
            value, interval = float(found.each.mean()), _interval(metric, found.influence, num_resamples, seed)
            candidates = metric.chance, metric.pool_size
            scores.append(Score(metric.name, value, *candidates, len(found.each), interval, metric.higher_is_better))
    return scores


def _interval(metric: TableMetric, influence: np.ndarray, num_resamples: int, seed: int) -> Interval:
    """Return the interval of a mean; percentages stay within [0, 1]."""
    if is_hit_rate(metric.pool_size):
        return hit_rate_interval(influence)
    bounds = (0.0, 1.0) if metric.form == "percent" else None
    return bootstrap_interval(influence, num_resamples=num_resamples, seed=seed, bounds=bounds)


def derangement(count: int, seed: int) -> Tensor:
    """Draw a permutation `(count,)` int64 without fixed points."""
    assert count > 1, count
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        if (order != torch.arange(count)).all():
            return order
