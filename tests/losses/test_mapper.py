"""Mind Reader's mapper losses against numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mindeye_pl.losses.mapper import STAGE_A, STAGE_B, MapperLoss, MapperWeights, mapper_loss


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 2 * torch.randn(7, 12), torch.nn.functional.normalize(torch.randn(7, 12), dim=-1)


def by_hand(predicted: Tensor, target: Tensor) -> tuple[float, float, float]:
    """Squared error, cosine and contrastive loss."""
    seen, expected = predicted.double().numpy(), target.double().numpy()
    cosines = (seen / np.linalg.norm(seen, axis=1, keepdims=True)) @ expected.T
    odds = np.exp(cosines / 0.5)
    directions = [-np.log(np.diag(odds) / odds.sum(axis)).mean() for axis in (0, 1)]
    return ((seen - expected) ** 2).mean(), 1 - np.diag(cosines).mean(), 0.5 * sum(directions)


@pytest.mark.parametrize(("stage", "weights"), [(STAGE_A, (0.4, 0.6, 0)), (STAGE_B, (0.2, 0.3, 0.5))])
def test_mapper_stages_weight_the_terms(
    pair: tuple[Tensor, Tensor], stage: MapperWeights, weights: tuple[float, float, float]
) -> None:
    loss, parts = mapper_loss(*pair, stage), by_hand(*pair)
    assert loss.total.item() == pytest.approx(np.dot(weights, parts), rel=1e-5)
    assert loss.mse.item() == pytest.approx(parts[0], rel=1e-5)
    assert loss.cosine.item() == pytest.approx(parts[1], rel=1e-5)
    if stage is STAGE_A:
        assert loss.contrastive is None
    else:
        assert loss.contrastive.item() == pytest.approx(parts[2], rel=1e-5)


def test_mapper_loss_uses_length_only_in_the_squared_error(pair: tuple[Tensor, Tensor]) -> None:
    predicted, target = pair
    short, long = mapper_loss(predicted, target, STAGE_B), mapper_loss(3 * predicted, target, STAGE_B)
    assert long.mse > 2 * short.mse
    torch.testing.assert_close(long[2:], short[2:])


def test_mapper_loss_is_lowest_for_the_targets(pair: tuple[Tensor, Tensor]) -> None:
    predicted, target = pair

    def total(of: Tensor) -> float:
        return mapper_loss(of, target, STAGE_B).total.item()

    assert total(target) < total(0.5 * predicted + 0.5 * target) < total(predicted)
    assert total(target) < total(target.roll(1, 0))


def test_mapper_loss_is_the_same_under_autocast(pair: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mapper_loss(*pair, STAGE_B)
    assert isinstance(mixed, MapperLoss)
    assert mixed == mapper_loss(*pair, STAGE_B)
