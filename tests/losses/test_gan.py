"""Adversarial losses and regularisers on functions with known values."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mindeye_pl.losses.gan import (
    discriminator_loss,
    generator_loss,
    lazy_adam,
    path_length_batch,
    path_length_penalty,
    r1_gamma,
    r1_penalty,
)


def test_logistic_losses_equal_negative_log_likelihoods() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0, 1.0])

    def negative_log_likelihood(logits: Tensor, sign: int) -> float:
        return float(np.mean(-np.log(1 / (1 + np.exp(-sign * logits.numpy())))))

    assert generator_loss(fake).item() == pytest.approx(negative_log_likelihood(fake, 1))
    expected = negative_log_likelihood(real, 1) + negative_log_likelihood(fake, -1)
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)
    assert discriminator_loss(torch.zeros(2), torch.zeros(2)).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(torch.tensor([-500.0])).item() == 500, "the loss must not saturate"


@pytest.mark.parametrize("interval", [1, 16])
def test_r1_penalty_of_a_quadratic_discriminator(interval: int) -> None:
    """For D(x) = a / 2 |x|^2 the gradient is a x, and the derivative of the penalty by a is gamma a |x|^2."""
    images = torch.randn(4, 3, 5, 5, requires_grad=True)
    curvature = torch.tensor(0.7, requires_grad=True)
    logits = curvature / 2 * images.square().flatten(1).sum(1)
    penalty = r1_penalty(logits, images, gamma=3.0, interval=interval)
    squared_length = images.detach().square().sum().item() / 4
    assert penalty.item() == pytest.approx(interval * 3.0 / 2 * 0.7**2 * squared_length, rel=1e-5)
    penalty.backward()
    assert curvature.grad.item() == pytest.approx(interval * 3.0 * 0.7 * squared_length, rel=1e-5)


def test_r1_gamma_scales_with_image_size() -> None:
    assert r1_gamma(256, 16) == pytest.approx(0.8192)
    assert r1_gamma(64, 16) == pytest.approx(0.8192 / 16)


class LinearGenerator(nn.Module):
    """`(B, L, W)` to `(B, 3, 4, 4)`, with a matrix for each layer."""

    def __init__(self, num_layers: int = 3, w_dim: int = 5):
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(num_layers, 48, w_dim))

    def forward(self, styles: Tensor) -> Tensor:
        return torch.einsum("lpw,blw->bp", self.matrices, styles).reshape(-1, 3, 4, 4)


def test_path_length_penalty_of_a_linear_generator() -> None:
    torch.manual_seed(0)
    generator, styles = LinearGenerator(), torch.randn(6, 3, 5, requires_grad=True)
    torch.manual_seed(1)
    seen = path_length_penalty(generator(styles), styles, torch.tensor(2.0), weight=2.0, decay=0.25, interval=4)
    torch.manual_seed(1)
    noise = torch.randn(6, 48).numpy() / 4  # 16 pixels
    gradients = np.einsum("lpw,bp->blw", generator.matrices.detach(), noise)
    lengths = np.sqrt((gradients**2).sum(2).mean(1))
    average = 0.75 * 2.0 + 0.25 * lengths.mean()
    np.testing.assert_allclose(seen.lengths, lengths, rtol=1e-5)
    assert seen.average.item() == pytest.approx(average, rel=1e-5)
    assert seen.loss.item() == pytest.approx(4 * 2.0 * ((lengths - average) ** 2).mean(), rel=1e-4)
    assert not seen.average.requires_grad


def test_mean_squared_path_length_is_the_jacobian_norm() -> None:
    torch.manual_seed(0)
    generator, styles = LinearGenerator(), torch.randn(4000, 3, 5, requires_grad=True)
    lengths = path_length_penalty(generator(styles), styles, torch.tensor(0.0)).lengths
    frobenius = generator.matrices.detach().square().sum().item() / 3 / 16
    assert lengths.square().mean().item() == pytest.approx(frobenius, rel=0.05)


def test_path_length_penalty_reduces_the_spread_of_lengths() -> None:
    torch.manual_seed(0)
    generator = LinearGenerator(num_layers=1)
    generator.matrices.data *= torch.tensor([0.1, 0.1, 1.0, 3.0, 5.0])
    optimizer, average, spread = torch.optim.Adam(generator.parameters(), lr=0.03), torch.tensor(0.0), []
    for _ in range(150):
        styles = torch.randn(32, 1, 5, requires_grad=True)
        loss, average, lengths = path_length_penalty(generator(styles), styles, average, decay=0.1)
        spread.append((lengths.std() / lengths.mean()).item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(spread[-20:]) < 0.8 * np.mean(spread[:20])


def test_path_length_batch_is_smaller_than_the_batch() -> None:
    assert [path_length_batch(size) for size in (1, 2, 5, 16)] == [1, 1, 2, 8]


def test_lazy_adam_scales_rate_and_betas() -> None:
    generator, discriminator = lazy_adam(4), lazy_adam(16)
    assert generator["lr"] == pytest.approx(0.002)
    assert discriminator["lr"] == pytest.approx(0.002353, rel=1e-3)
    assert generator["betas"] == pytest.approx((0, 0.99**0.8))
    assert lazy_adam(0) == {"lr": 0.0025, "betas": (0, 0.99), "eps": 1e-8}
    torch.optim.Adam([nn.Parameter(torch.zeros(1))], **generator)
