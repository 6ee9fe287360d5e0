"""Closed-form alignment: against scikit-learn and brute force, on planted maps, and the decay to the start."""

from collections.abc import Sequence

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


def test_no_other_penalty_and_no_other_gain_is_better() -> None:
    rng = np.random.default_rng(2)
    betas, vectors = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    spread = float(vectors.std())
    score = lambda predicted: -abs(float(predicted.std()) - spread)  # noqa: E731

    def choices(penalties: Sequence[float], gains: Sequence[float]) -> dict[str, float]:
        how = {"penalties": penalties, "gains": gains, "score": score}
        return ClosedFormAlignment.fit(betas, np.arange(20), vectors, **how).choices

    gains = (4.0, 1.0, 2.0)
    found = choices(PENALTIES, gains)
    others = [choices((penalty,), (found["gain"],)) for penalty in PENALTIES]
    others += [choices((found["penalty"],), (gain,)) for gain in gains]
    assert found["score"] == max(other["score"] for other in others)
    assert found in others


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


def _prior_case(trials: int = 60, voxels: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    betas = rng.normal(1, 1, (trials, voxels)).astype(np.float32)
    ids = rng.permutation(np.arange(trials) % (trials // 2)) * 3  # two trials of each image
    prior = rng.normal(size=(4, voxels)).astype(np.float32)
    vectors = np.stack([(betas[ids == each] @ prior.T).mean(0) for each in np.unique(ids)])
    return betas, ids, (vectors + rng.normal(0, 3, vectors.shape)).astype(np.float32), prior


@pytest.mark.parametrize("voxels", [25, 90])
def test_a_prior_is_ridge_regression_on_what_it_leaves(voxels: int) -> None:
    betas, ids, vectors, prior = _prior_case(voxels=voxels)
    args = {"penalties": [20.0], "gains": [1.5], "score": lambda _: 0.0, "prior_scales": [0.6]}
    fit = ClosedFormAlignment.fit(betas, ids, vectors, prior=lambda _: torch.from_numpy(prior), **args)
    peer = Ridge(20.0).fit(betas, vectors[ids // 3] - 0.6 * betas @ prior.T)
    np.testing.assert_allclose(fit.weight, 1.5 * (peer.coef_ + 0.6 * prior), atol=1e-4)
    mean = vectors.mean(0)
    expected = mean + 1.5 * (peer.predict(betas) + 0.6 * betas @ prior.T - mean)
    np.testing.assert_allclose(betas @ fit.weight.numpy().T + fit.bias.numpy(), expected, atol=1e-3)
    centred = betas - betas.mean(0, dtype=np.float64)
    normal = centred.T @ (vectors[ids // 3] - mean) + 20 * 0.6 * prior.T.astype(np.float64)
    solved = np.linalg.solve(centred.T @ centred + 20 * np.eye(voxels), normal)  # the normal equations
    np.testing.assert_allclose(fit.weight, 1.5 * solved.T, atol=1e-4)


@pytest.mark.parametrize("voxels", [25, 90])
def test_held_out_predictions_have_a_prior_that_has_not_seen_the_image(voxels: int) -> None:
    betas, ids, vectors, prior = _prior_case(voxels=voxels)
    seen: list[torch.Tensor] = []
    masks: list[np.ndarray] = []

    def prior_of(rows: np.ndarray) -> torch.Tensor:
        masks.append(rows)
        return torch.from_numpy(prior * betas[rows].mean())

    def score(predicted: torch.Tensor) -> float:
        seen.append(predicted)
        return 0.0

    how = {"penalties": [3.0], "gains": [1.0], "prior_scales": [0.7]}
    ClosedFormAlignment.fit(betas, ids, vectors, score=score, prior=prior_of, **how)
    assert masks[-1].all()
    for number, image in enumerate(np.unique(ids)):
        rest = ids != image
        (others,) = [rows for rows in masks[:-1] if not rows[~rest].any()]
        towards = 0.7 * prior.T * betas[others].mean()
        peer = Ridge(3.0).fit(betas[rest], vectors[ids[rest] // 3] - betas[rest] @ towards)
        expected = (peer.predict(betas[~rest]) + betas[~rest] @ towards).mean(0)
        np.testing.assert_allclose(seen[0][number], expected, atol=5e-4)


def test_limits_of_a_prior() -> None:
    """Scale 0 is no prior; an endless penalty leaves the prior, as does an image that follows it."""
    betas, ids, vectors, prior = _prior_case()
    fit = lambda penalty, **more: ClosedFormAlignment.fit(  # noqa: E731
        betas, ids, vectors, penalties=[penalty], gains=[1.0], score=lambda _: 0.0, **more
    )
    given = {"prior": lambda _: torch.from_numpy(prior)}
    none, zero = fit(10.0), fit(10.0, **given, prior_scales=[0.0])
    torch.testing.assert_close(zero.weight, none.weight, rtol=0, atol=0)
    torch.testing.assert_close(zero.bias, none.bias, rtol=0, atol=0)
    endless = fit(1e12, **given, prior_scales=[1.0])
    np.testing.assert_allclose(endless.weight, prior, atol=1e-5)
    np.testing.assert_allclose(endless.bias, vectors[ids // 3].mean(0) - prior @ betas.mean(0), atol=1e-4)


def test_the_score_decides_whether_a_prior_helps() -> None:
    betas, ids, vectors, prior = _prior_case()
    score = lambda found: -float(((found - torch.from_numpy(vectors)) ** 2).mean())  # noqa: E731
    how = {"penalties": PENALTIES, "gains": [1.0], "score": score, "prior_scales": [0.0, 0.5, 1.0]}
    true = ClosedFormAlignment.fit(betas, ids, vectors, prior=lambda _: torch.from_numpy(prior), **how)
    wrong = ClosedFormAlignment.fit(betas, ids, vectors, prior=lambda _: torch.from_numpy(-prior), **how)
    assert (true.choices["prior_scale"], wrong.choices["prior_scale"]) == (1.0, 0.0)


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
