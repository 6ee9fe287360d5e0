"""Rescaled predictions vary as the targets do."""

import pytest
import torch

from mindeye_pl.metrics.rescaling import AS_PREDICTED, TO_NORM, TO_STD, Spread, best_rescaling


def shrunk() -> tuple[torch.Tensor, torch.Tensor, Spread]:
    """Return targets `(50, 2, 3)`, predictions shrunk by a factor of each target, and their statistics."""
    generator = torch.Generator().manual_seed(0)
    targets = 2 + torch.randn(50, 2, 3, generator=generator)
    mean = targets.mean(0)
    predictions = mean + torch.linspace(0.1, 0.9, 6).view(2, 3) * (targets - mean)
    std = (targets.std(0, correction=0), predictions.std(0, correction=0))
    return targets, predictions, Spread(mean, *std)


def test_each_form() -> None:
    targets, predictions, spread = shrunk()
    assert torch.equal(spread.rescale(predictions, AS_PREDICTED), predictions)
    torch.testing.assert_close(spread.rescale(predictions, TO_STD), targets, rtol=1e-4, atol=1e-4)
    norms = (spread.rescale(predictions, TO_NORM) - spread.mean).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, norms[0].expand(50))
    assert norms[0] == pytest.approx(float((targets - spread.mean).flatten(1).norm(dim=1).square().mean().sqrt()), 1e-4)


def test_constant_predictions_stay() -> None:
    spread = Spread(torch.zeros(3), torch.ones(3), torch.zeros(3))
    assert torch.equal(spread.rescale(torch.zeros(2, 3), TO_STD), torch.zeros(2, 3))
    assert spread.rescale(torch.zeros(2, 3), TO_NORM).isfinite().all()


def test_the_best_of_equal_ones_is_the_first() -> None:
    assert best_rescaling({AS_PREDICTED: 0.2, TO_STD: 0.3, TO_NORM: 0.3}) == TO_STD
