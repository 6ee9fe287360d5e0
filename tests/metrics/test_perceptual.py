"""LPIPS: its formula, and its order on increasingly different images.

AlexNet has random weights here; the linear layers have the package's weights.
"""

import pytest
import torch
from torch import Tensor, nn

from mindeye_pl.metrics.perceptual import lpips_per_image


@pytest.fixture(scope="module")
def network() -> nn.Module:
    import lpips as package

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return package.LPIPS(net="alex", pnet_rand=True, verbose=False).requires_grad_(False).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def by_hand(network: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = torch.zeros(len(first))
    inputs = [(2 * batch - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for batch in (first, second)]
    layers = zip(*(network.net(batch) for batch in inputs), strict=True)
    for number, pair in enumerate(layers):
        one, other = (layer / layer.norm(dim=1, keepdim=True).clamp_min(1e-10) for layer in pair)
        weight = getattr(network, f"lin{number}").model[1].weight.view(1, -1, 1, 1)
        total += (weight * (one - other) ** 2).sum(1).mean((1, 2))
    return total


def test_lpips_equals_the_formula(network: nn.Module, images: Tensor) -> None:
    others = images.flip(0)
    found = lpips_per_image(others, images, network=network)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), by_hand(network, others, images), rtol=1e-4, atol=1e-6)


def test_lpips_is_zero_for_identical_images_and_grows_with_noise(network: nn.Module, images: Tensor) -> None:
    assert (lpips_per_image(images, images, network=network) == 0).all()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(images[..., ::16, ::16], scale_factor=16, mode="bilinear")
    distances = [lpips_per_image(smooth + level * noise, smooth, network=network).mean() for level in (0.02, 0.1, 0.5)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_lpips_is_symmetric_and_independent_of_batches(network: nn.Module, images: Tensor) -> None:
    others = images.roll(1, 0)
    found = lpips_per_image(others, images, network=network)
    torch.testing.assert_close(lpips_per_image(images, others, network=network), found)
    torch.testing.assert_close(lpips_per_image(others, images, network=network, batch_size=2), found)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(lpips_per_image(others[order], images[order], network=network), found[order])


def test_lpips_of_different_sizes_fails(network: nn.Module, images: Tensor) -> None:
    with pytest.raises(AssertionError, match="64"):
        lpips_per_image(images[..., :32], images, network=network)
