"""Scores of reconstructions: means, chance and derangements."""

import numpy as np
import torch

from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.images import (
    BASIC_METRICS,
    CLIP_TWO_WAY,
    PIXCORR,
    SSIM,
    derangement,
    score_each,
    summarise_scores,
)
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image


def features(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def test_summarised_scores_are_the_metrics() -> None:
    torch.manual_seed(0)
    seen, made = torch.rand(2, 7, 3, 24, 24)
    values = score_each(made, seen, features=features, size=None)
    scores = {score.name: score for score in summarise_scores(values, BASIC_METRICS, num_resamples=50)}
    assert set(scores) == {metric.name for metric in BASIC_METRICS}
    np.testing.assert_allclose(scores[PIXCORR].value, float(pixcorr_per_image(made, seen, size=None).mean()), atol=1e-9)
    np.testing.assert_allclose(scores[SSIM].value, float(ssim_per_image(made, seen, size=None).mean()), atol=1e-9)
    identified = n_way_per_image(correlation_matrix(features(made), features(seen)), n=2).mean()
    np.testing.assert_allclose(scores[CLIP_TWO_WAY].value, float(identified))
    assert scores[CLIP_TWO_WAY].chance == 0.5
    assert scores[PIXCORR].chance is None


def test_identical_images_score_best_and_unrelated_images_chance() -> None:
    torch.manual_seed(1)
    seen, other = torch.rand(2, 60, 3, 16, 16)
    best = score_each(seen, seen, features=features, size=None)
    assert all(np.allclose(scored.each, 1) for scored in best.values())
    for score in summarise_scores(
        score_each(other, seen, features=features, size=None), BASIC_METRICS, num_resamples=500
    ):
        assert score.interval is not None
        chance = 0.5 if score.name == CLIP_TWO_WAY else 0.0
        if score.name != SSIM:
            assert score.interval[0] - 0.02 <= chance <= score.interval[1] + 0.02, score


def test_identical_reconstructions_score_two_way_chance() -> None:
    torch.manual_seed(2)
    seen = torch.rand(9, 3, 16, 16)
    values = score_each(seen.mean(0, keepdim=True).expand_as(seen), seen, features=features, size=None)
    np.testing.assert_allclose(values[CLIP_TWO_WAY].each.mean(), 0.5)


def test_derangement_has_no_fixed_points() -> None:
    for count in (2, 3, 50):
        order = derangement(count, seed=0)
        assert sorted(order.tolist()) == list(range(count))
        assert (order != torch.arange(count)).all()
        assert torch.equal(order, derangement(count, seed=0))
