"""One vector for each image: what it keeps of the tokens."""

import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.coarse import VECTORS, WIDEST


def tokens(count: int = 40, num_tokens: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(count, num_tokens, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "width"), [("mean_of_tokens", 24), ("flattened", 384), ("projected", 100)])
def test_widths_and_batches(name: str, width: int) -> None:
    reduce = VECTORS[name](100, seed=0)
    vectors = reduce(tokens())
    assert vectors.shape == (40, width)
    torch.testing.assert_close(torch.cat([reduce(batch) for batch in tokens().split(7)]), vectors)


def test_the_class_token_is_the_only_token() -> None:
    one = tokens(num_tokens=1)
    assert torch.equal(VECTORS["class_token"](0, 0)(one), one[:, 0])
    with pytest.raises(UserError, match=r"class token alone \(got: 16 tokens.*retrieve.coarse="):
        VECTORS["class_token"](0, 0)(tokens())


def test_the_projection_is_linear_and_keeps_inner_products_on_average() -> None:
    one, two = tokens()[0:1], tokens()[0:1] + 0.5 * tokens()[1:2]
    project = VECTORS["projected"](64, seed=3)
    torch.testing.assert_close(project(one + two), project(one) + project(two))
    projections = (VECTORS["projected"](64, seed) for seed in range(400))
    products = torch.stack([(project(one) * project(two)).sum() for project in projections])
    exact = (one * two).sum()
    spread = products.std()
    assert abs(products.mean() - exact) < 4 * spread / 400**0.5, "unbiased"
    assert spread < 2 * one.norm() * two.norm() / 64**0.5


def test_the_projection_follows_from_its_seed_and_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (VECTORS["projected"](64, seed)(tokens()) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_choices() -> None:
    with pytest.raises(UserError, match=r"too wide .*retrieve.vector=projected"):
        VECTORS["flattened"](64, 0)(torch.zeros(1, 2, WIDEST))
