"""Closed-form alignment: against scikit-learn and brute force, on planted maps, and the decay to the start."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mindeye_pl.errors import UserError
from mindeye_pl.models.parts.alignment import FunctionalAlignment
from mindeye_pl.nn.brain.alignment import PerSubjectLinear
from mindeye_pl.training.closed_form import ClosedFormAlignment, SharedVectors

PENALTIES = (0.1, 10.0, 1000.0)


@pytest.mark.parametrize(("trials", "voxels"), [(40, 60), (90, 20)])
def test_a_fit_is_ridge_regression_spread_by_the_gain(trials: int, voxels: int) -> None:
    rng = np.random.default_rng(0)
    betas = rng.normal(1, 1, (trials, voxels)).astype(np.float32)
    ids = rng.permutation(np.arange(trials) % (trials // 2)) * 3  # two trials of each image
    vectors = rng.normal(2, 1, (trials // 2, 5)).astype(np.float32)
    fit = ClosedFormAlignment.fit(betas, ids, vectors, penalties=[10.0], gains=[2.5], score=lambda _: 0.0)
    peer = Ridge(10.0).fit(betas, vectors[ids // 3])
    mean = vectors.mean(0)
    np.testing.assert_allclose(fit.weight, 2.5 * peer.coef_, atol=2e-5)
    expected = mean + 2.5 * (peer.predict(betas) - mean)
    np.testing.assert_allclose(betas @ fit.weight.numpy().T + fit.bias.numpy(), expected, atol=1e-4)


def test_the_score_sees_predictions_without_any_trial_of_the_image() -> None:
    rng = np.random.default_rng(1)
    betas, ids = rng.normal(size=(30, 12)).astype(np.float32), np.repeat(np.arange(15), 2)
    vectors = rng.normal(size=(15, 4)).astype(np.float32)
    seen: list[torch.Tensor] = []

    def score(predicted: torch.Tensor) -> float:
        seen.append(predicted)
        return 0.0

    ClosedFormAlignment.fit(betas, ids, vectors, penalties=[3.0], gains=[1.0], score=score)
    for image in range(15):
        rest = ids != image
        left_out = Ridge(3.0).fit(betas[rest], vectors[ids[rest]]).predict(betas[~rest]).mean(0)
        np.testing.assert_allclose(seen[0][image], left_out, atol=1e-4)


def test_the_best_pair_by_the_score_is_taken() -> None:
    rng = np.random.default_rng(2)
    betas, vectors = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    spread = float(vectors.std())
    score = lambda predicted: -abs(float(predicted.std()) - spread)  # noqa: E731
    fits = [
        ClosedFormAlignment.fit(betas, np.arange(20), vectors, penalties=each, gains=gains, score=score)
        for each in (PENALTIES, *((one,) for one in PENALTIES))
        for gains in [(1.0, 2.0, 4.0)]
    ]
    assert fits[0].choices["score"] == max(fit.choices["score"] for fit in fits[1:])


def test_a_planted_map_is_found() -> None:
    """Both subjects' responses are linear in the same vectors: the new subject's map undoes its own response."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 16)).astype(np.float32)
    vectors = features @ rng.normal(size=(16, 6)).astype(np.float32)
    shared = SharedVectors.fit(features[:300], vectors[:300], PENALTIES)
    assert shared.r2 > 0.99
    predicted = shared(features[300:])
    np.testing.assert_allclose(predicted, vectors[300:], atol=0.1)
    betas = (vectors[300:] @ rng.normal(size=(6, 40)) + 0.1 * rng.normal(size=(100, 40))).astype(np.float32)
    fit = ClosedFormAlignment.fit(
        betas,
        np.arange(100),
        predicted,
        penalties=PENALTIES,
        gains=(1.0, 2.0),
        score=lambda found: -float(((found - torch.from_numpy(predicted)) ** 2).mean()),
    )
    assert fit.choices["gain"] == 1
    aligned = betas @ fit.weight.numpy().T + fit.bias.numpy()
    assert np.corrcoef(aligned.ravel(), vectors[300:].ravel())[0, 1] > 0.99


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="too few images"):
        SharedVectors.fit(np.zeros((5, 3), np.float32), np.zeros((5, 2), np.float32), PENALTIES)


def test_decay_to_the_start_is_a_decayed_residual() -> None:
    """AdamW on W with the correction is AdamW on D with W = start + D."""
    torch.manual_seed(0)
    part = FunctionalAlignment(PerSubjectLinear([7], 3), weight_decay=0.5, gain_decay="corrected")
    linear = part.network.linears[0]
    start = linear.weight.detach().clone()
    residual = torch.zeros_like(start, requires_grad=True)
    part.decay_to_present_weights()
    own = torch.optim.AdamW(part.parameter_groups(), lr=0.1)
    peer = torch.optim.AdamW([residual], lr=0.1, weight_decay=0.5)
    target = torch.randn_like(start)
    for _ in range(20):
        for optimizer, weight in ((own, linear.weight), (peer, start + residual)):
            optimizer.zero_grad()
            ((weight - target) ** 2).sum().backward()
            optimizer.step()
        part.correct_decay(own)
    torch.testing.assert_close(linear.weight, start + residual, atol=1e-5, rtol=1e-5)
    assert (linear.weight - start).abs().max() > 0.1
