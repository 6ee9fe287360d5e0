"""Augmented views: near the picture, other than it, the same whatever the batch."""

import torch

from mindeye_pl.nn.convnext import augmented_views, random_convnext


def test_views_follow_from_the_picture_alone() -> None:
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    views = augmented_views(pictures, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert views.shape == (3, 4, 3, 16, 16)
    assert 0 <= views.min() <= views.max() <= 1
    assert torch.equal(augmented_views(pictures[1:2], 4)[0], views[1])
    assert not torch.equal(views[0, 0], views[0, 1])
    assert not torch.equal(views[0, 0], pictures[0])


def test_random_network_follows_from_its_seed() -> None:
    first, again, other = (random_convnext(seed, widths=(4, 8), depths=(1, 1)) for seed in (0, 0, 1))
    pictures = torch.rand(2, 3, 32, 32)
    assert first(pictures).shape == (2, 16, 512)
    assert torch.equal(first(pictures), again(pictures))
    assert not torch.allclose(first(pictures), other(pictures))
