"""Properties of blurry images by a linear map."""

import pytest
import torch

from mindeye_pl.nn.brain.linear_blur import LinearBlur

VOXELS, SIDE = 7, 4


def blur(spread: float = 1.0, image_size: tuple[int, int] | None = None, scale: float = 0.02) -> LinearBlur:
    generator = torch.Generator().manual_seed(0)
    weight = scale / 4 * torch.randn(3 * SIDE**2, VOXELS, generator=generator)
    bias = 0.5 + 0.05 * torch.randn(3 * SIDE**2, generator=generator)
    mean = 0.4 + 0.1 * torch.rand(3, SIDE, SIDE, generator=generator)
    return LinearBlur(weight, bias, mean, spread=spread, image_size=image_size)


def voxels(count: int = 5) -> torch.Tensor:
    return torch.randn(count, VOXELS, generator=torch.Generator().manual_seed(1))


def test_images_are_affine_in_the_voxels() -> None:
    made, some = blur(), voxels()
    torch.testing.assert_close(made(some).flatten(1), some @ made.weight.T + made.bias)
    torch.testing.assert_close(made(some.mean(0, keepdim=True)), made(some).mean(0, keepdim=True))


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_spread_multiplies_the_difference_from_the_mean_image(spread: float) -> None:
    plain, spreading = blur(), blur(spread)
    torch.testing.assert_close(spreading(voxels()) - plain.mean, spread * (plain(voxels()) - plain.mean))


def test_images_are_resized_and_in_range() -> None:
    made = blur(spread=9.0, image_size=(12, 20), scale=1.0)(voxels())
    assert made.shape == (5, 3, 12, 20)
    assert (made.min(), made.max()) == (0, 1)


def test_the_map_is_no_weight_of_the_system() -> None:
    assert not blur().state_dict()
    assert not list(blur().parameters())
