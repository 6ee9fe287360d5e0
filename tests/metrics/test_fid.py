"""FID, compared with scipy and torchmetrics, and on sets of known distance."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.fid import fid, fid_score


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


def test_fid_needs_two_images_per_set() -> None:
    with pytest.raises(UserError, match="too few images for FID"):
        fid(torch.zeros(1, 4), torch.zeros(5, 4))


def test_fid_score_names_network_and_reference() -> None:
    first, second = draw(30, 4, 13), draw(20, 4, 14)
    score = fid_score(first, second, network="fid_inception", reference="test_images")
    assert score.name == "fid_inception_to_test_images"
    assert fid_score(first, second, network="laptop_clip", reference="x").name == "fid_laptop_clip_to_x"
    assert (score.value, score.num_images, score.higher_is_better) == (float(fid(first, second)), 30, False)
    assert score.interval is score.chance is score.pool_size is None
