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
    seen, wanted = predicted.double().numpy(), target.double().numpy()
    cosines = (seen / np.linalg.norm(seen, axis=1, keepdims=True)) @ wanted.T
    odds = np.exp(cosines / 0.5)
    directions = [-np.log(np.diag(odds) / odds.sum(axis)).mean() for axis in (0, 1)]
    return ((seen - wanted) ** 2).mean(), 1 - np.diag(cosines).mean(), 0.5 * sum(directions)


@pytest.mark.parametrize(("stage", "weights"), [(STAGE_A, (0.4, 0.6, 0)), (STAGE_B, (0.2, 0.3, 0.5))])
def test_stages_weigh_the_parts(
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


def test_length_counts_for_the_squared_error_alone(pair: tuple[Tensor, Tensor]) -> None:
    predicted, target = pair
    short, long = mapper_loss(predicted, target, STAGE_B), mapper_loss(3 * predicted, target, STAGE_B)
    assert long.mse > 2 * short.mse
    torch.testing.assert_close(long[2:], short[2:])


def test_the_targets_themselves_are_the_best_prediction(pair: tuple[Tensor, Tensor]) -> None:
    predicted, target = pair

    def total(of: Tensor) -> float:
        return mapper_loss(of, target, STAGE_B).total.item()

    assert total(target) < total(0.5 * predicted + 0.5 * target) < total(predicted)
    assert total(target) < total(target.roll(1, 0))


def test_half_precision_does_not_reach_the_loss(pair: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mapper_loss(*pair, STAGE_B)
    assert isinstance(mixed, MapperLoss)
    assert mixed == mapper_loss(*pair, STAGE_B)
