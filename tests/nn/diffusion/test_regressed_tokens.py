"""Tokens as a regression predicts them, against the matrix form of the same mean and against a fitted regression."""

import pytest
import torch
from sklearn.linear_model import Ridge

from mindeye_pl.nn.diffusion.regressed_tokens import RegressedTokens

NUM_IMAGES, NUM_TOKENS, WIDTH = 400, 3, 4


@pytest.fixture
def tokens() -> torch.Tensor:
    """Tokens `(N, S, D)` of correlated channels with a mean."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(NUM_TOKENS * WIDTH, NUM_TOKENS * WIDTH, generator=generator)
    rows = 1 + torch.randn(NUM_IMAGES, NUM_TOKENS * WIDTH, generator=generator) @ mixing
    return rows.view(NUM_IMAGES, NUM_TOKENS, WIDTH)


def regressed(tokens: torch.Tensor, share: float = 1.0, components: int = 12) -> RegressedTokens:
    return RegressedTokens(tokens, share=share, noise=(0.5, 4.0), components=components)


def test_equals_the_matrix_form_of_the_mean(tokens: torch.Tensor) -> None:
    made, noise = regressed(tokens), torch.full((NUM_IMAGES, 1), 1.7)
    torch.manual_seed(3)
    got = made.predicted(tokens, noise)
    torch.manual_seed(3)
    added = 1.7 * torch.randn(NUM_IMAGES, 12) @ made.directions.mT
    rows = tokens.flatten(1).double()
    covariance = torch.cov(rows.mT, correction=0)
    gain = covariance @ torch.linalg.inv(covariance + 1.7**2 * torch.eye(12))
    expected = rows.mean(0) + (rows + added - rows.mean(0)) @ gain.mT
    torch.testing.assert_close(got.flatten(1).double(), expected, rtol=1e-4, atol=1e-4)


def test_is_what_ridge_regression_from_noisy_tokens_predicts(tokens: torch.Tensor) -> None:
    made, rows = regressed(tokens), tokens.flatten(1)
    data = rows.mean(0) + (rows - rows.mean(0)).repeat(200, 1) + 2 * torch.randn(200 * NUM_IMAGES, 12)
    fitted = Ridge(alpha=1e-3).fit(data, rows.repeat(200, 1))
    torch.manual_seed(5)
    got = made.predicted(tokens, torch.full((NUM_IMAGES, 1), 2.0)).flatten(1)
    torch.manual_seed(5)
    seen = rows + 2 * torch.randn(NUM_IMAGES, 12) @ made.directions.mT
    expected = torch.from_numpy(fitted.predict(seen)).float()
    assert ((got - expected) ** 2).mean() < 1e-3 * rows.var()


def test_components_that_vary_little_are_lost_first(tokens: torch.Tensor) -> None:
    made = regressed(tokens)
    predicted = made.predicted(tokens, torch.full((NUM_IMAGES, 1), 3.0)).flatten(1)
    left = ((predicted - made.mean) @ made.directions).std(0) / made.deviations
    assert (left.diff() < 0.05).all()
    assert left[0] > 5 * left[-1]


def test_share_of_the_images_is_replaced(tokens: torch.Tensor) -> None:
    torch.testing.assert_close(regressed(tokens, share=0.0)(tokens), tokens, rtol=0, atol=0)
    changed = (regressed(tokens, share=0.25)(tokens) != tokens).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.25, abs=0.08)
    half = tokens.half()
    assert regressed(tokens)(half).dtype == torch.float16


def test_few_images_have_as_many_components(tokens: torch.Tensor) -> None:
    made = regressed(tokens[:5], components=256)
    assert made.directions.shape == (12, 5)
    assert made(tokens).shape == tokens.shape
    assert not made.state_dict()  # the trained weights are the unCLIP's alone
