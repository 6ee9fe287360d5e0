"""Confidence intervals for other seeds and other images: claims on a method, not on one trained model of it.

Legend: n images, K seeds.
"""

import numpy as np

from mindeye_pl.metrics.statistics.intervals import interval_over_images
from mindeye_pl.metrics.statistics.score import Interval

#: Smallest number of seeds from which an interval for other seeds is computed; Student's t of two is 12.7.
MIN_SEEDS = 3


def add_seeds(over_images: Interval, means: np.ndarray) -> Interval:
    """Widen an interval over images, of a mean over seeds, so that it is also for other seeds.

    The distances from the mean to the ends of the interval over images, and half of Student's interval of the seeds'
    means `(K,)` over images, are squared and added (MOVER: Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).
    Variation of an image with a seed is in both, which makes the interval too wide: it covers 94 to 100 %. A bootstrap
    that redraws three seeds covers as little as 75 %, and Satterthwaite's degrees of freedom 92 %. Student's interval
    assumes that the seeds' means are about normal: at a hit rate of 0.9 it covers 92 % if seeds have a
    standard deviation of 5 points, and 83 % with 10 (docs/decisions/0019).
    """
    from scipy.stats import t

    num, mean = len(means), float(np.mean(means))
    assert means.ndim == 1, means.shape
    assert num >= MIN_SEEDS, f"{num} seeds"
    half = float(t.ppf((1 + 0.95) / 2, num - 1) * means.std(ddof=1) / np.sqrt(num))
    low, high = over_images
    return mean - float(np.hypot(mean - low, half)), mean + float(np.hypot(high - mean, half))


def interval_over_seeds(scores: np.ndarray, *, hits: bool = False, seed: int = 0) -> Interval:
    """Compute the 95 % interval of a method's mean score for other images and other seeds.

    Scores are `(K, n)`, the same images for each seed. Hits are in [0, 1], and so is their interval.
    """
    scores = np.asarray(scores, dtype=np.float64)
    low, high = add_seeds(interval_over_images(scores.mean(0), hits=hits, seed=seed), scores.mean(1))
    return (max(0.0, low), min(1.0, high)) if hits else (low, high)
