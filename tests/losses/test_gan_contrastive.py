"""The contrastive term of Mind Reader's generator and discriminator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mindeye_pl.losses.gan_contrastive import log_match, mean_log_match, perturb


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(5, 8), torch.randn(5, 8)


def by_hand(first: Tensor, second: Tensor, axis: int, temperature: float = 0.5) -> float:
    """Log softmax over one axis, element by element."""
    odds = np.zeros((5, 5))
    for i, one in enumerate(first.numpy()):
        for j, other in enumerate(second.numpy()):
            odds[i, j] = np.exp(one @ other / np.linalg.norm(one) / np.linalg.norm(other) / temperature)
    return float(np.mean(np.log(np.diag(odds) / odds.sum(axis))))


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_lam_selects_the_direction_of_log_match(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    over_first, over_second = (by_hand(*pair, axis, temperature) for axis in (0, 1))
    assert over_first != pytest.approx(over_second, rel=1e-3)
    for lam, expected in ((0.0, over_first), (1.0, over_second), (0.25, 0.75 * over_first + 0.25 * over_second)):
        assert log_match(*pair, temperature=temperature, lam=lam).item() == pytest.approx(expected, rel=1e-5)
    swapped = log_match(*reversed(pair), temperature=temperature, lam=1.0)
    assert swapped.item() == pytest.approx(over_first, rel=1e-5)


def test_log_match_with_an_embedding_near_all_images() -> None:
    """It is one of four queries at lam 0, and a distractor of every query at lam 1."""
    images, embeddings = torch.eye(4), torch.eye(4)
    embeddings[3] = 1.0  # cosines of one half
    asked = np.log([np.exp(10) / (np.exp(10) + 3)] * 3 + [1 / 4])
    assert log_match(images, embeddings, temperature=0.1).item() == pytest.approx(asked.mean(), rel=1e-4)
    wrong = np.log([np.exp(10) / (np.exp(10) + np.exp(5) + 2)] * 3 + [np.exp(5) / (np.exp(5) + 3)])
    assert log_match(images, embeddings, temperature=0.1, lam=1.0).item() == pytest.approx(wrong.mean(), rel=1e-4)


def test_log_match_favours_partners_and_ignores_length(pair: tuple[Tensor, Tensor]) -> None:
    first, _ = pair
    assert log_match(first, first) > log_match(first, first.roll(1, 0))
    torch.testing.assert_close(log_match(7 * first, first), log_match(first, first))
    assert log_match(first, first, temperature=1e-3).item() == pytest.approx(0, abs=1e-4)


def test_mean_log_match_averages_over_pairs(pair: tuple[Tensor, Tensor]) -> None:
    first, second = pair
    both = mean_log_match([first, second], [second, second], lam=1.0, temperature=0.2)
    expected = (
        log_match(first, second, lam=1.0, temperature=0.2) + log_match(second, second, lam=1.0, temperature=0.2)
    ) / 2
    torch.testing.assert_close(both, expected)
    torch.testing.assert_close(mean_log_match([first], [second]), log_match(first, second))
    with pytest.raises(ValueError, match="longer"):
        mean_log_match([first], [second, second])


def test_log_match_is_the_same_under_autocast(pair: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = log_match(*pair)
    assert torch.equal(mixed, log_match(*pair))


def test_perturb_equals_numpy() -> None:
    embeddings, noise = torch.nn.functional.normalize(torch.randn(6, 8), dim=1), 40 * torch.randn(6, 8)
    seen = perturb(embeddings, noise=noise)
    moved = 0.9 * embeddings.numpy() + 0.1 * noise.numpy() / np.linalg.norm(noise, axis=1, keepdims=True)
    np.testing.assert_allclose(seen, moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(perturb(embeddings, noise_weight=0.0), embeddings)


def test_perturb_draws_new_noise_and_changes_a_long_embedding_less() -> None:
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(200, 64), dim=1)
    first, second = perturb(embeddings), perturb(embeddings)
    assert not torch.allclose(first, second)
    cosines = (first * embeddings).sum(1)
    assert cosines.mean().item() == pytest.approx(0.9 / np.hypot(0.9, 0.1), abs=2e-3)
    assert (perturb(10 * embeddings) * embeddings).sum(1).mean() > 0.9999
