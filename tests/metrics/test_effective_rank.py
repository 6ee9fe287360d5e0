import numpy as np
import pytest
import torch

from mindeye_pl.metrics.effective_rank import effective_rank


def rank_by_svd(tokens: torch.Tensor) -> float:
    """Compute the definition of Roy and Vetterli with numpy."""
    features = tokens.flatten(1).double().numpy()
    singular = np.linalg.svd(features - features.mean(0), compute_uv=False)
    weights = singular[singular > 1e-9 * singular.max()] / singular.sum()
    return float(np.exp(-(weights * np.log(weights)).sum()))


@pytest.mark.parametrize("block_size", [1, 5, 1000])
@pytest.mark.parametrize(("num", "width"), [(12, 30), (30, 12)])
def test_effective_rank_equals_numpy(num: int, width: int, block_size: int) -> None:
    tokens = 7 + torch.randn(num, 2, width, generator=torch.Generator().manual_seed(0))
    assert effective_rank(tokens, block_size=block_size).item() == pytest.approx(rank_by_svd(tokens), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    corners = torch.eye(64)[:, :rank].repeat(1, 1)
    tokens = torch.cat([corners[:rank], -corners[:rank]])  # 2 * rank images along `rank` axes, mean 0
    assert effective_rank(tokens).item() == pytest.approx(rank)
    low_rank = torch.randn(40, rank, dtype=torch.float64) @ torch.randn(rank, 300, dtype=torch.float64)
    assert effective_rank(100 + low_rank) <= rank + 1e-6


def test_effective_rank_orders_collapse_truth_and_noise() -> None:
    true = torch.randn(30, 40) @ torch.diag(0.8 ** torch.arange(40)) @ torch.randn(40, 200)
    same = torch.randn(1, 200).expand(30, -1)
    prototypes = true[:3][torch.arange(30) % 3]
    noise = torch.randn(30, 200)
    assert effective_rank(same) == 0
    assert effective_rank(prototypes) < effective_rank(true + 0.1 * noise)
    assert effective_rank(true) < effective_rank(noise)
    assert effective_rank(noise) <= 29


def test_effective_rank_does_not_depend_on_order_scale_and_mean() -> None:
    tokens = torch.randn(20, 50, dtype=torch.float64)
    rank = effective_rank(tokens).item()
    assert effective_rank(3 * tokens[torch.randperm(20)] + torch.randn(50)).item() == pytest.approx(rank)


def test_half_precision_tokens_are_computed_in_double() -> None:
    tokens = (5 + torch.randn(20, 500)).half()
    assert effective_rank(tokens) == effective_rank(tokens.double())
