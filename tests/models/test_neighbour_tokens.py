"""Weighted means of known images' tokens, beside numpy and at the ends of their settings."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics.pairwise import cosine_similarity

from mindeye_pl.models.neighbour_tokens import NeighbourTokens

N, S, D = 600, 3, 4


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2 * N, S, D)).astype(np.float16)


@pytest.fixture
def retrieval() -> torch.Tensor:
    return torch.randn(5, S, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spread", [1.0, 1.7])
def test_equals_a_softmax_over_all_known_images(tokens: np.ndarray, retrieval: torch.Tensor, spread: float) -> None:
    ids = np.arange(1, 2 * N, 2)
    known = tokens[ids].reshape(N, -1).astype(float)
    queries = retrieval.flatten(1).double().numpy()
    similarity = cosine_similarity(queries, known)
    weights = softmax(similarity / (0.4 * similarity.std(1, keepdims=True)), axis=1)
    expected = known.mean(0) + spread * (weights @ known - known.mean(0))
    found = NeighbourTokens(tokens, ids, 0.4, spread)(retrieval)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-4)


def test_a_low_temperature_gives_the_nearest_image_and_a_high_one_the_mean(tokens: np.ndarray) -> None:
    ids, seen = np.arange(2 * N), torch.from_numpy(tokens[[7, 900]]).float()
    nearest = NeighbourTokens(tokens, ids, 1e-3)(3 * seen)
    torch.testing.assert_close(nearest, seen, atol=1e-4, rtol=0)
    mean = NeighbourTokens(tokens, ids, 1e6)(seen)
    np.testing.assert_allclose(mean, np.broadcast_to(tokens.astype(float).mean(0), mean.shape), atol=1e-3)
