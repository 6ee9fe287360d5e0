"""Layers with an equalised learning rate."""

import pytest
import torch

from mindeye_pl.nn.stylegan2.equalised import EqualisedConv2d, EqualisedLinear, activate


@pytest.mark.parametrize("width", [16, 256])
@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_variance_is_kept_whatever_the_width_and_the_multiplier(width: int, lr_multiplier: float) -> None:
    torch.manual_seed(0)
    made = EqualisedLinear(width, 400, lr_multiplier=lr_multiplier)(torch.randn(200, width))
    assert made.std().item() == pytest.approx(1, abs=0.1)
    maps = EqualisedConv2d(width, 100, 3, plain=True)(torch.randn(4, width, 6, 6))
    assert maps[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)


def test_a_multiplier_scales_the_step_and_not_the_function() -> None:
    torch.manual_seed(0)
    plain, slow = EqualisedLinear(8, 5, bias=1.0), EqualisedLinear(8, 5, bias=1.0, lr_multiplier=0.01)
    slow.weight.data = plain.weight.data / 0.01
    features = torch.randn(1, 8)
    before = plain(features)
    torch.testing.assert_close(slow(features), before)
    for layer in (plain, slow):
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
        layer(features).sum().backward()
        optimizer.step()
    torch.testing.assert_close(slow(features) - before, 0.01 * (plain(features) - before), rtol=1e-2, atol=1e-6)


def test_activation_is_clamped_before_its_gain() -> None:
    features = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    root = 2**0.5
    torch.testing.assert_close(activate(features), torch.tensor([-20 * root, -0.2 * root, 0.0, root, 100 * root]))
    torch.testing.assert_close(
        activate(features, gain=0.5, clamp=10.0), torch.tensor([-5.0, -0.1 * root, 0.0, 0.5 * root, 5.0])
    )


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_halved_maps_are_those_of_a_mirrored_image_mirrored(kernel_size: int) -> None:
    torch.manual_seed(0)
    conv, features = EqualisedConv2d(3, 4, kernel_size, down=True), torch.randn(2, 3, 8, 8)
    halved = conv(features)
    assert halved.shape == (2, 4, 4, 4)
    conv.weight.data = conv.weight.data.flip(3)
    torch.testing.assert_close(conv(features.flip(3)), halved.flip(3))
