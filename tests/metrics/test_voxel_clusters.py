"""Embeddings and clusters of voxels, against scikit-learn and planted groups of voxels."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.encoding import RidgeEncoder
from mindeye_pl.metrics.voxel_clusters import FeatureAxes, cluster_voxels, nearest_voxels, voxel_embeddings

IMAGES, FEATURES, AXES, GROUPS = 300, 20, 6, 3


@pytest.fixture(scope="module")
def planted() -> dict[str, np.ndarray]:
    """Features of images of two subjects, and voxels of three groups with one tuning each, at several scales."""
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2 * IMAGES, AXES)) @ rng.standard_normal((AXES, FEATURES))).astype(np.float32)
    tuning = rng.standard_normal((FEATURES, GROUPS))
    found: dict[str, np.ndarray] = {"features": features}
    for subject, count in ((0, 40), (1, 30)):
        group = rng.integers(GROUPS, size=count)
        own = features[subject * IMAGES : (subject + 1) * IMAGES]
        driven = own @ tuning[:, group] * rng.uniform(0.2, 2, count)
        betas = 3 + driven + driven.std(0) * rng.standard_normal((IMAGES, count))
        found |= {f"features{subject}": own, f"betas{subject}": betas.astype(np.float32), f"group{subject}": group}
    return found


def embed(planted: dict[str, np.ndarray], subject: int) -> np.ndarray:
    axes = FeatureAxes.fit(planted["features"], AXES)
    return voxel_embeddings(axes.project(planted[f"features{subject}"]), planted[f"betas{subject}"], axes.deviations)


def test_the_dot_product_is_the_correlation_of_predicted_responses(planted: dict[str, np.ndarray]) -> None:
    axes = FeatureAxes.fit(planted["features"], AXES)
    projected = axes.project(planted["features"])
    assert projected.shape == (2 * IMAGES, AXES)
    np.testing.assert_allclose(projected.std(0), axes.deviations, rtol=1e-4)
    embeddings = embed(planted, 0)
    assert embeddings.shape == (40, AXES)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    encoder = RidgeEncoder.fit(projected[:IMAGES], planted["betas0"])
    predicted = encoder.predict(projected)
    np.testing.assert_allclose(embeddings @ embeddings.T, np.corrcoef(predicted.T), atol=1e-3)


def test_clusters_are_those_of_scikit_learn_and_of_the_plan(planted: dict[str, np.ndarray]) -> None:
    voxels = np.concatenate([embed(planted, 0), embed(planted, 1)])
    clusters = cluster_voxels(voxels, GROUPS, covariance="diag", seed=3)
    mixture = GaussianMixture(GROUPS, covariance_type="diag", random_state=3, reg_covar=1e-4).fit(voxels)
    assert adjusted_rand_score(mixture.predict(voxels), clusters) == 1
    assert adjusted_rand_score(np.concatenate([planted["group0"], planted["group1"]]), clusters) > 0.95
    assert np.array_equal(clusters, cluster_voxels(voxels, GROUPS, covariance="diag", seed=3))


def test_nearest_voxels_respond_alike(planted: dict[str, np.ndarray]) -> None:
    new, known = embed(planted, 1), embed(planted, 0)
    nearest = nearest_voxels(new, known, 2)
    assert nearest.shape == (30, 2)
    assert np.array_equal(nearest, (new @ known.T).argsort(1)[:, :-3:-1])
    assert (planted["group0"][nearest[:, 0]] == planted["group1"]).mean() > 0.95


def test_too_few_voxels_are_refused() -> None:
    with pytest.raises(UserError, match="too few voxels"):
        cluster_voxels(np.zeros((3, 2), np.float32), 4)
