"""Tuning and clusters of voxels, against scikit-learn and planted groups of voxels."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import normalize

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.encoding import RidgeEncoder
from mindeye_pl.metrics.voxel_clusters import FeatureAxes, cluster_voxels, nearest_voxels, voxel_tuning

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


def fit(planted: dict[str, np.ndarray], subject: int) -> np.ndarray:
    axes = FeatureAxes.fit(planted["features"], AXES)
    return voxel_tuning(axes.project(planted[f"features{subject}"]), planted[f"betas{subject}"], axes.deviations)


def test_tuning_is_the_correlation_and_the_deviation_of_predicted_responses(planted: dict[str, np.ndarray]) -> None:
    axes = FeatureAxes.fit(planted["features"], AXES)
    projected = axes.project(planted["features"])
    assert projected.shape == (2 * IMAGES, AXES)
    np.testing.assert_allclose(projected.std(0), axes.deviations, rtol=1e-4)
    tuning = fit(planted, 0)
    assert tuning.shape == (40, AXES)
    predicted = RidgeEncoder.fit(projected[:IMAGES], planted["betas0"]).predict(projected)
    np.testing.assert_allclose(np.linalg.norm(tuning, axis=1), predicted.std(0), rtol=1e-3)
    np.testing.assert_allclose(cosine_similarity(tuning), np.corrcoef(predicted.T), atol=1e-3)


def test_clusters_are_those_of_scikit_learn_and_of_the_plan(planted: dict[str, np.ndarray]) -> None:
    voxels = np.concatenate([fit(planted, 0), fit(planted, 1)])
    clusters = cluster_voxels(voxels, GROUPS, covariance="diag", seed=3)
    mixture = GaussianMixture(GROUPS, covariance_type="diag", random_state=3, reg_covar=1e-4)
    assert np.array_equal(mixture.fit_predict(normalize(voxels.astype(float))), clusters)
    assert adjusted_rand_score(np.concatenate([planted["group0"], planted["group1"]]), clusters) > 0.95
    assert np.array_equal(clusters, cluster_voxels(voxels, GROUPS, covariance="diag", seed=3))


def test_nearest_voxels_respond_alike(planted: dict[str, np.ndarray]) -> None:
    new, known = fit(planted, 1), fit(planted, 0)
    nearest = nearest_voxels(new, known, 2)
    assert nearest.shape == (30, 2)
    assert np.array_equal(nearest, cosine_similarity(new, known).argsort(1)[:, :-3:-1])
    assert (planted["group0"][nearest[:, 0]] == planted["group1"]).mean() > 0.95


def test_too_few_voxels_are_refused() -> None:
    with pytest.raises(UserError, match="too few voxels"):
        cluster_voxels(np.zeros((3, 2), np.float32), 4)
