import itertools
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.spatial.distance import correlation as scipy_distance
from torch import Tensor

from mindeye_pl.metrics.identification import (
    correlation_distance_per_image,
    correlation_matrix,
    correlation_per_row,
    n_way_per_image,
    two_way_influence,
)
from mindeye_pl.metrics.retrieval import hit_rates

DIRECTIONS = ("published", "paper")


def pairs(num: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gallery = 5 + torch.randn(num, 4, 6, generator=generator)
    return gallery + noise * torch.randn(num, 4, 6, generator=generator), gallery


def directed_correlations(query: Tensor, gallery: Tensor, direction: str = "published") -> Tensor:
    """Return correlations `(num, num)` with the fixed items as rows."""
    correlations = correlation_matrix(query, gallery)
    return correlations.T if direction == "paper" else correlations


@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_correlations_equal_scipy_for_any_block_size(block_size: int) -> None:
    first, second = torch.randn(5, 3, 8) + 100, torch.randn(4, 3, 8) - 3
    found = correlation_matrix(first, second, block_size=block_size)
    expected = 1 - cdist(first.flatten(1).double(), second.flatten(1).double(), "correlation")
    np.testing.assert_allclose(found, expected, atol=1e-12)
    correlations = correlation_per_row(first[:4], second, batch_size=3)
    np.testing.assert_allclose(correlations, expected.diagonal(), atol=1e-12)


def test_correlation_distance_equals_scipy() -> None:
    first, second = pairs(6, 1.0)
    expected = [scipy_distance(a.ravel(), b.ravel()) for a, b in zip(first.double(), second.double(), strict=True)]
    assert correlation_distance_per_image(first, second).mean().item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_constant_row_has_correlation_zero(scale: float) -> None:
    first = torch.randn(3, 50_000)
    first[1] = 0.3 * scale
    assert (correlation_matrix(first, first)[1] == 0).all()
    assert correlation_per_row(first, first)[1] == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_way_identification_equals_the_published_script(direction: str) -> None:
    recons, reals = (some.flatten(1).double().numpy() for some in pairs(20, 3.0))
    r = np.corrcoef(reals, recons)[:20, 20:]  # rows are reals
    if direction == "published":
        wins = [(r[np.arange(20) != j, j] < r[j, j]).mean() for j in range(20)]
    else:
        wins = [(r[i, np.arange(20) != i] < r[i, i]).mean() for i in range(20)]
    query, gallery = pairs(20, 3.0)
    each = n_way_per_image(directed_correlations(query, gallery, direction), n=2)
    np.testing.assert_allclose(each, wins)
    swapped = DIRECTIONS[direction == "published"]
    np.testing.assert_allclose(each, n_way_per_image(directed_correlations(gallery, query, swapped), n=2))


@pytest.mark.parametrize(("n", "top_k"), [(2, 1), (3, 1), (3, 2), (5, 2), (6, 1), (6, 3)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_n_way_identification_equals_all_possible_draws(n: int, top_k: int, direction: str) -> None:
    query, gallery = pairs(6, 3.0)
    similarity = directed_correlations(query, gallery, direction)
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        draws = itertools.combinations(others, n - 1)
        expected.append(np.mean([sum(similarity[i, j] > similarity[i, i] for j in draw) < top_k for draw in draws]))
    found = n_way_per_image(similarity, n=n, top_k=top_k)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_n_way_identification_among_all_is_the_hit_rate() -> None:
    similarity = correlation_matrix(*pairs(30, 3.0))
    for top_k in (1, 5):
        found = n_way_per_image(similarity, n=30, top_k=top_k)
        np.testing.assert_allclose(found, hit_rates(similarity, top_k), atol=1e-12)


def test_ties_are_broken_randomly() -> None:
    similarity = torch.tensor([[2.0, 2, 2, 3, 1], [0, 0, 0, 0, 0], [3, 3, 3, 0, 0], [1, 1, 1, 0, 1], [0, 0, 0, 0, 9]])
    for n, top_k in ((2, 1), (3, 1), (4, 2), (5, 1)):
        expected = []
        for i, row in enumerate(similarity.tolist()):
            draws = list(itertools.combinations([j for j in range(5) if j != i], n - 1))
            orders = itertools.permutations(range(5))
            found = [sum((row[j], o[j]) > (row[i], o[i]) for j in draw) < top_k for o in orders for draw in draws]
            expected.append(np.mean(found))
        np.testing.assert_allclose(n_way_per_image(similarity.double(), n=n, top_k=top_k), expected, atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("num", "width"), [(9, 16), (50, 3000)])
def test_identical_reconstructions_score_chance(direction: str, num: int, width: int) -> None:
    gallery = torch.randn(num, width)
    same = torch.randn(1, width).expand(num, -1)
    correlations = directed_correlations(same, gallery, direction)
    assert n_way_per_image(correlations, n=2).mean().item() == pytest.approx(0.5)
    assert n_way_per_image(correlations, n=5, top_k=2).mean().item() == pytest.approx(2 / 5)
    assert two_way_influence(correlations).numpy() == pytest.approx(0.5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shuffled_images_score_chance(direction: str) -> None:
    scores = []
    for seed in range(60):
        query, gallery = pairs(40, 0.5, seed)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        correlations = directed_correlations(query[order], gallery, direction)
        scores.append([n_way_per_image(correlations, n=n, top_k=top_k).mean() for n, top_k in ((2, 1), (10, 3))])
    means, errors = np.mean(scores, axis=0), np.std(scores, axis=0) / np.sqrt(60)
    assert (np.abs(means - [0.5, 0.3]) < 3.5 * errors).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_scores_do_not_depend_on_image_order(direction: str) -> None:
    query, gallery = pairs(25, 3.0)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    for score in (partial(n_way_per_image, n=2), two_way_influence):
        one = score(directed_correlations(query, gallery, direction))
        other = score(directed_correlations(query[order], gallery[order], direction))
        np.testing.assert_allclose(one[order], other, atol=1e-12)


def test_two_way_influence_equals_the_jackknife() -> None:
    correlations = correlation_matrix(*pairs(12, 3.0))
    score = n_way_per_image(correlations, n=2).mean().item()
    influence = two_way_influence(correlations)
    assert influence.mean().item() == pytest.approx(score)
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        without = n_way_per_image(correlations[rest][:, rest], n=2).mean().item()
        # Jackknife of a U-statistic of two: the score without image i.
        assert without == pytest.approx(score - (influence[i].item() - score) / 10)


def test_half_precision_features_are_compared_in_double() -> None:
    query, gallery = pairs(10, 1.0)
    query, gallery = query.half(), gallery.half()
    np.testing.assert_array_equal(
        correlation_matrix(query, gallery), correlation_matrix(query.double(), gallery.double())
    )


def test_ties_are_half_or_lost() -> None:
    """Lost, as a strict comparison by numpy counts them, which is the published code's."""
    correlations = torch.randint(0, 4, (30, 30), generator=torch.Generator().manual_seed(0)).double() / 4
    own = correlations.diagonal()[:, None].numpy()
    off = ~np.eye(30, dtype=bool)
    lost = ((own > correlations.numpy()) & off).sum(1) / 29
    half = lost + ((own == correlations.numpy()) & off).sum(1) / 29 / 2
    for ties, wanted in (("lost", lost), ("half", half)):
        np.testing.assert_allclose(n_way_per_image(correlations, n=2, ties=ties), wanted)
        influence = two_way_influence(correlations, ties=ties)
        np.testing.assert_allclose(influence.mean(), wanted.mean())
    mean_image = torch.ones(5, 5)
    assert n_way_per_image(mean_image, n=2, ties="lost").sum() == 0
    assert n_way_per_image(mean_image, n=5, ties="lost").sum() == 0
