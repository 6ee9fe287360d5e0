"""FID and KID, compared with scipy and torchmetrics, and on sets of known distance."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.fid import MIN_IMAGES_FOR_FID, fid, kid, set_scores


def draw(count: int, width: int, seed: int) -> Tensor:
    """Draw rows of correlated features; mean and covariance depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    return torch.randn(count, width, generator=generator) @ mixing + torch.randn(width, generator=generator)


def by_scipy(first: Tensor, second: Tensor) -> float:
    from scipy.linalg import sqrtm

    first, second = first.double().numpy(), second.double().numpy()
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


class Means(nn.Module):
    """Feature network: the mean of each channel, and its square."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return torch.cat([means, means**2], 1)


@pytest.mark.parametrize(("counts", "width"), [((200, 150), 12), ((40, 300), 32), ((33, 33), 32)])
def test_fid_equals_scipy(counts: tuple[int, int], width: int) -> None:
    first, second = draw(counts[0], width, 0), draw(counts[1], width, 1)
    found = fid(first, second)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(by_scipy(first, second), rel=1e-3)


@pytest.mark.parametrize("count", [8, 200])
def test_fid_equals_torchmetrics(count: int) -> None:
    first, second = draw(count, 24, 2), draw(count, 24, 3)
    network = nn.Identity()
    network.num_features = 24
    metric = FrechetInceptionDistance(feature=network, normalize=True)
    for batch in first.split(50):
        metric.update(batch, real=False)
    metric.update(second, real=True)
    assert float(metric.compute()) == pytest.approx(float(fid(first, second)), rel=1e-3)


def test_fid_of_one_feature_equals_the_formula() -> None:
    first, second = 2 + 3 * draw(500, 1, 4), draw(400, 1, 5)
    expected = (first.mean() - second.mean()) ** 2 + (first.std() - second.std()) ** 2
    assert float(fid(first, second)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("count", [10, 500])
def test_fid_of_equal_sets_is_zero(count: int) -> None:
    features = draw(count, 32, 6)
    assert fid(features, features.flip(0)) == pytest.approx(0, abs=1e-9)


def test_fid_grows_with_noise_and_with_fewer_images() -> None:
    features, noise = draw(2000, 16, 7), draw(2000, 16, 8)
    distances = [float(fid(features + level * noise, features)) for level in (0, 0.1, 0.5, 2)]
    assert distances == sorted(distances)
    assert distances[1] > 0
    same = torch.randn(4000, 16, generator=torch.Generator().manual_seed(9))
    few, many = fid(same[:50], same[50:100]), fid(same[:2000], same[2000:])
    assert few > 5 * many, "FID must be biased upwards for few images"


def test_fid_does_not_depend_on_the_pairing() -> None:
    first, second = draw(60, 8, 10), draw(60, 8, 11)
    torch.testing.assert_close(fid(first[torch.randperm(60)], second), fid(first, second))


@pytest.mark.parametrize("distance", [fid, kid])
def test_distances_need_two_images_per_set(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(UserError, match=r"too few images for (FID|KID)"):
        distance(torch.zeros(1, 4), torch.zeros(5, 4))


@pytest.mark.parametrize("count", [8, 200])
def test_kid_equals_torchmetrics(count: int) -> None:
    first, second = draw(count, 24, 2), draw(count, 24, 3)
    network = nn.Identity()
    network.num_features = 24
    metric = KernelInceptionDistance(feature=network, subsets=1, subset_size=count, normalize=True)
    metric.update(first, real=False)
    metric.update(second, real=True)
    assert float(metric.compute()[0]) == pytest.approx(float(kid(first, second)), rel=1e-4)


@pytest.mark.parametrize("paired", [False, True])
def test_kid_has_no_bias_where_fid_has(paired: bool) -> None:
    sets = torch.randn(300, 2, 20, 6, generator=torch.Generator().manual_seed(0))
    if paired:  # equal distributions, and each image is similar to its own
        sets[:, 1] = 0.8 * sets[:, 0] + 0.6 * sets[:, 1]
    values = torch.stack([kid(first, second, paired=paired) for first, second in sets])
    assert values.mean().item() == pytest.approx(0, abs=3 * values.std().item() / 300**0.5)
    assert all(fid(first, second) > 0.1 for first, second in sets[:20])
    if paired:
        assert all(kid(first, second) < kid(first, second, paired=True) for first, second in sets[:20])


@pytest.mark.parametrize(("counts", "paired"), [((5, 7), False), ((6, 6), True)])
def test_kid_equals_a_loop(counts: tuple[int, int], paired: bool) -> None:
    sets = [draw(count, 3, seed).double() for seed, count in enumerate(counts)]

    def mean_kernel(first: Tensor, second: Tensor, others: bool) -> float:
        pairs = [(i, j) for i in range(len(first)) for j in range(len(second)) if i != j or not others]
        return float(np.mean([(float(first[i] @ second[j]) / 3 + 1) ** 3 for i, j in pairs]))

    expected = sum(mean_kernel(rows, rows, others=True) for rows in sets) - 2 * mean_kernel(*sets, others=paired)
    assert float(kid(*sets, paired=paired)) == pytest.approx(expected, rel=1e-9)


def test_kid_stands_beside_fid_of_few_images() -> None:
    first, second = draw(30, 4, 13), draw(20, 4, 14)
    scores = set_scores(first, second, ("fid", "kid"))
    assert [score.name for score in scores] == ["fid", "kid"]
    assert [score.value for score in scores] == [float(fid(first, second)), 1000 * float(kid(first, second))]
    for score in scores:
        assert (score.num_images, score.higher_is_better) == (30, False)
        assert score.interval is score.chance is score.pool_size is None
    many = draw(MIN_IMAGES_FOR_FID, 4, 15)
    assert [score.name for score in set_scores(many, many.flip(0), ("fid", "kid"))] == ["fid"]
