"""An untrained network of feature maps."""

import torch

from mindeye_pl.nn.features.convnext import random_convnext


def test_random_network_follows_from_its_seed() -> None:
    first, again, other = (random_convnext(seed, widths=(4, 8), depths=(1, 1)) for seed in (0, 0, 1))
    images = torch.rand(2, 3, 32, 32)
    assert first(images).shape == (2, 16, 512)
    assert torch.equal(first(images), again(images))
    assert not torch.allclose(first(images), other(images))
