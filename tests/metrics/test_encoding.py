"""Ridge encoder, compared with scikit-learn, and its errors."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from mindeye_pl.errors import UserError
from mindeye_pl.metrics import encoding
from mindeye_pl.metrics.encoding import RidgeEncoder
from tests.metrics.test_brain_correlation import voxel_correlation


def problem(n: int, num_features: int, num_voxels: int = 9, m: int = 40) -> tuple[np.ndarray, ...]:
    """Return features and betas of training and test images; voxels differ in noise."""
    rng = np.random.default_rng(n)
    features = (3 + rng.standard_normal((n + m, num_features)) * rng.uniform(0.1, 2, num_features)).astype(np.float32)
    weights = rng.standard_normal((num_features, num_voxels)) / np.sqrt(num_features)
    noise = np.linspace(0.05, 5, num_voxels) * rng.standard_normal((n + m, num_voxels))
    betas = (1 + features @ weights + noise).astype(np.float32)
    return features[:n], betas[:n], features[n:], betas[n:]


def rms_norm(features: np.ndarray) -> float:
    return float(np.sqrt(np.square(features - features.mean(0), dtype=np.float64).sum(1).mean()))


@pytest.mark.parametrize(("n", "num_features"), [(80, 12), (40, 150)])
def test_ridge_encoder_equals_sklearn(n: int, num_features: int) -> None:
    features, betas, test_features, _ = problem(n, num_features)
    encoder = RidgeEncoder.fit(features, betas, voxels_per_block=4)
    assert encoder.num_voxels == 9
    predicted = encoder.predict(test_features)
    assert predicted.dtype == np.float32
    size = rms_norm(features)
    by_sklearn = RidgeCV(alphas=encoding.ALPHAS, alpha_per_target=True).fit(features.astype(np.float64) / size, betas)
    np.testing.assert_allclose(encoder.alphas, by_sklearn.alpha_)
    assert len(set(encoder.alphas)) > 1, "noisier voxels need a larger penalty"
    np.testing.assert_allclose(predicted, by_sklearn.predict(test_features / size), rtol=1e-3, atol=2e-3)
    alone = Ridge(encoder.alphas[4]).fit(features.astype(np.float64) / size, betas[:, 4]).predict(test_features / size)
    np.testing.assert_allclose(predicted[:, 4], alone, rtol=1e-3, atol=2e-3)


def test_fewer_components_equal_ridge_on_principal_components() -> None:
    features, betas, test_features, _ = problem(80, 30)
    encoder = RidgeEncoder.fit(features, betas, num_components=7)
    centred = (features - features.mean(0)).astype(np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:7]
    scores = centred @ axes.T
    size = rms_norm(scores)
    by_hand = RidgeCV(alphas=encoding.ALPHAS, alpha_per_target=True).fit(scores / size, betas)
    expected = by_hand.predict((test_features - features.mean(0)) @ axes.T / size)
    np.testing.assert_allclose(encoder.predict(test_features), expected, rtol=1e-3, atol=2e-3)


def test_ridge_encoder_does_not_depend_on_units_blocks_and_order() -> None:
    features, betas, test_features, _ = problem(60, 20)
    expected = RidgeEncoder.fit(features, betas).predict(test_features)
    scaled = RidgeEncoder.fit(1000 * features, betas).predict(1000 * test_features)
    np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-3)
    blocks = RidgeEncoder.fit(features, betas, voxels_per_block=1).predict(test_features)
    np.testing.assert_allclose(blocks, expected, rtol=1e-3, atol=1e-3)
    order = np.random.default_rng(0).permutation(60)
    shuffled = RidgeEncoder.fit(features[order], betas[order]).predict(test_features)
    np.testing.assert_allclose(shuffled, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(RidgeEncoder.fit(features, betas).predict(test_features[3:5]), expected[3:5], atol=1e-4)


def test_large_features_are_fitted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    features, betas, test_features, _ = problem(90, 25)
    whole = RidgeEncoder.fit(features, betas).predict(test_features)
    monkeypatch.setattr(encoding, "_MAX_BYTES_PER_BATCH", 4 * 25 * 30)  # thirty images
    parts = RidgeEncoder.fit(features.astype(np.float16), betas).predict(test_features)
    np.testing.assert_allclose(parts, whole, rtol=1e-2, atol=1e-2)


def test_ridge_encoder_predicts_unseen_images() -> None:
    features, betas, test_features, test_betas = problem(150, 20, m=200)
    encoder = RidgeEncoder.fit(features, betas)
    measured = torch.from_numpy(test_betas)
    assert voxel_correlation(torch.from_numpy(encoder.predict(test_features)), measured) > 0.4
    shuffled = RidgeEncoder.fit(features, np.random.default_rng(0).permutation(betas))
    assert voxel_correlation(torch.from_numpy(shuffled.predict(test_features)), measured).abs() < 0.15


def test_invalid_input_raises_an_error() -> None:
    features, betas, test_features, _ = problem(30, 8)
    ids = np.arange(100, 130)
    encoder = RidgeEncoder.fit(features, betas, stimulus_ids=ids)
    encoder.predict(test_features[:3], stimulus_ids=np.array([1, 2, 3]))
    with pytest.raises(UserError, match=r"trained on images that it would score \(got: 1 of 3.*image 105"):
        encoder.predict(test_features[:3], stimulus_ids=np.array([1, 105, 3]))
    with pytest.raises(UserError, match="features do not fit the encoding model"):
        encoder.predict(test_features[:, 1:])
    with pytest.raises(UserError, match=r"image 100, 2 times.*average the repetitions first"):
        RidgeEncoder.fit(features, betas, stimulus_ids=np.where(ids == 101, 100, ids))
    with pytest.raises(UserError, match="too few images"):
        RidgeEncoder.fit(features[:2], betas[:2])
    with pytest.raises(UserError, match="the same for all training images"):
        RidgeEncoder.fit(np.ones_like(features), betas)
    with pytest.raises(UserError, match="NaN or infinity"):
        RidgeEncoder.fit(np.where(features > 5, np.nan, features), betas)
    with pytest.raises(UserError, match="positive numbers"):
        RidgeEncoder.fit(features, betas, alphas=(0.0, 1.0))
