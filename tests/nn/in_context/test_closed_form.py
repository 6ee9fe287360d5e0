"""The closed forms beside direct conditioning of Gaussians, and what they must not depend on."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mindeye_pl.nn.in_context.image_features import ImageFeatures
from mindeye_pl.nn.in_context.inversion import infer_features
from mindeye_pl.nn.in_context.neighbours import near_means
from mindeye_pl.nn.in_context.support import EstimatedVoxels, estimate_voxels
from mindeye_pl.nn.in_context.voxel_prior import Moments, VoxelPrior
from tests.nn.in_context.planted import FEATURES, planted_prior, planted_subject, planted_support


def test_weights_by_direct_conditioning() -> None:
    """One fraction of the grid: the joint Gaussian of weights and responses, conditioned with numpy."""
    prior, h, rng = planted_prior(), 0.3, np.random.default_rng(0)
    features, responses = rng.standard_normal((9, FEATURES)), rng.standard_normal((9, 4))
    counts = rng.integers(1, 4, 9)
    found = estimate_voxels(prior, *(torch.from_numpy(each) for each in (features, responses, counts)), fractions=(h,))
    covariance = np.eye(1 + FEATURES)
    covariance[1:, 1:] = prior.shape.numpy()
    covariance *= h
    mean = np.concatenate([[0], prior.mean.numpy()])
    design = np.concatenate([np.ones((9, 1)), features], 1)
    gain = covariance @ design.T @ np.linalg.inv(design @ covariance @ design.T + np.diag((1 - h) / counts))
    expected = mean[:, None] + gain @ (responses - (design @ mean)[:, None])
    np.testing.assert_allclose(found.baseline, expected[0], atol=1e-10)
    np.testing.assert_allclose(found.weights, expected[1:], atol=1e-10)
    left = covariance - gain @ design @ covariance
    np.testing.assert_allclose(found.uncertainty, np.trace(left), atol=1e-10)
    np.testing.assert_allclose(found.noise, 1 - h)


def test_fractions_by_the_density_of_the_responses() -> None:
    prior, rng, grid = planted_prior(), np.random.default_rng(1), (0.05, 0.4)
    features, responses = torch.from_numpy(rng.standard_normal((30, FEATURES))), planted_subject(1, 30)[2][:, :5]
    found = estimate_voxels(prior, features, responses, torch.ones(30), fractions=grid)
    design = np.concatenate([np.ones((30, 1)), features.numpy()], 1)
    shape = np.eye(1 + FEATURES)
    shape[1:, 1:] = prior.shape.numpy()
    deviation = responses.numpy() - (features.numpy() @ prior.mean.numpy())[:, None]
    logs = []
    for h in grid:
        covariance = h * design @ shape @ design.T + (1 - h) * np.eye(30)
        quadratic = np.einsum("nv,nm,mv->v", deviation, np.linalg.inv(covariance), deviation)
        logs.append(-0.5 * (np.linalg.slogdet(covariance)[1] + quadratic))
    weight = np.exp(logs - np.max(logs, 0))
    expected = (weight * (1 - np.array(grid))[:, None]).sum(0) / weight.sum(0)
    np.testing.assert_allclose(found.noise, expected, atol=1e-10)


def test_features_by_direct_conditioning() -> None:
    rng, pseudo_count = np.random.default_rng(2), 7.0
    weights, residuals = rng.standard_normal((FEATURES, 11)), rng.standard_normal((5, 11))
    uncertainty, noise, baseline = rng.random(11), 0.5 + rng.random(11), rng.standard_normal(11)
    responses = rng.standard_normal((3, 11))
    voxels = EstimatedVoxels(*(torch.from_numpy(each) for each in (weights, baseline, uncertainty, noise, residuals)))
    found = infer_features(voxels, torch.from_numpy(responses), pseudo_count=pseudo_count)
    shared = (pseudo_count * np.diag(noise) + residuals.T @ residuals) / (pseudo_count + 5)
    joint = weights.T @ weights + shared + np.diag(uncertainty)  # covariance of the responses
    np.testing.assert_allclose(found, (responses - baseline) @ np.linalg.inv(joint) @ weights.T, atol=1e-9)


def test_features_are_principal_components() -> None:
    tokens = np.random.default_rng(3).standard_normal((40, 12)).astype(np.float32) * np.arange(1, 13)
    found, other = ImageFeatures.fit(tokens, 5), PCA(5).fit(tokens)
    features = found.encode(tokens)
    expected = other.transform(tokens)
    np.testing.assert_allclose(np.abs(features * found.scale), np.abs(expected), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features.square().mean(0), np.ones(5), rtol=1e-4)
    np.testing.assert_allclose(found.decode(features), other.inverse_transform(expected), atol=1e-3)
    norms = (found.decode(found.to_norm(features)) - found.mean).norm(dim=1)
    np.testing.assert_allclose(norms, np.sqrt(tokens.var(0).sum()), rtol=1e-4)


def test_the_prior_of_planted_voxels_is_found() -> None:
    subjects = [planted_subject(seed, 500, voxels=800) for seed in (0, 1)]
    found = VoxelPrior.fit([Moments.of(features, responses) for _, features, responses in subjects])
    true = planted_prior()
    np.testing.assert_allclose(found.mean, true.mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, true.covariance, atol=0.01)


@pytest.mark.parametrize("size", [0, 12])
def test_order_changes_nothing(size: int) -> None:
    prior, rng = planted_prior(), np.random.default_rng(4)
    support, _, responses = planted_support(4, size, 5)
    found = infer_features(estimate_voxels(prior, *vars(support).values()), responses, pseudo_count=10)
    images, voxels = (torch.from_numpy(rng.permutation(count)) for count in support.responses.shape)
    shuffled = (support.features[images], support.responses[images][:, voxels], support.counts[images])
    again = infer_features(estimate_voxels(prior, *shuffled), responses[:, voxels], pseudo_count=10)
    np.testing.assert_allclose(found, again, atol=1e-9)


def test_more_images_do_not_hurt() -> None:
    prior, errors = planted_prior(), []
    for size in (0, 5, 20, 80):
        squares = []
        for seed in range(4):
            support, features, responses = planted_support(seed, size, 60)
            found = infer_features(estimate_voxels(prior, *vars(support).values()), responses, pseudo_count=500)
            squares.append((found - features).square().mean())
        errors.append(float(torch.stack(squares).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1.05  # the prior mean alone, no worse than the mean image
    assert errors[-1] < 0.4


def test_an_image_shown_twice_counts_as_two() -> None:
    prior = planted_prior()
    support, _, _ = planted_support(5, 6, 3)
    twice = (support.features.repeat(2, 1), support.responses.repeat(2, 1), torch.ones(12))
    counted = (support.features, support.responses, torch.full((6,), 2.0))
    one, other = (estimate_voxels(prior, *each, fractions=(0.2,)) for each in (twice, counted))
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-9)
    np.testing.assert_allclose(one.uncertainty, other.uncertainty, atol=1e-9)


def test_near_voxels_share_their_mean() -> None:
    rng = np.random.default_rng(6)
    places = rng.random((50, 3)) * [10, 20, 5]
    weights = torch.from_numpy(rng.standard_normal((4, 50)))
    moved = 3 * places + 100  # another scanner's space
    np.testing.assert_allclose(near_means([(places, weights)], moved, 1), weights)
    everywhere = near_means([(places, weights)], moved, 99)
    np.testing.assert_allclose(everywhere, weights.mean(1, keepdim=True).expand(-1, 50))
