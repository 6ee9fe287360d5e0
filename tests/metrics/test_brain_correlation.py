"""Brain correlation and voxel correlation, compared with scipy, torchmetrics and a simulation of known ceiling."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor
from torchmetrics import PearsonCorrCoef

from mindeye_pl.errors import UserError
from mindeye_pl.metrics import brain_correlation as module
from mindeye_pl.metrics.brain_correlation import (
    brain_correlation_by_region,
    brain_correlation_per_image,
    voxel_correlation_per_voxel,
)
from mindeye_pl.metrics.noise_ceiling import effective_repetitions
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval


def brain_correlation(predicted: Tensor, measured: Tensor, mask: Any = None) -> Tensor:
    return brain_correlation_per_image(predicted, measured, mask).mean()


def voxel_correlation(predicted: Tensor, measured: Tensor, mask: Any = None, **options: Any) -> Tensor:
    return voxel_correlation_per_voxel(predicted, measured, mask, **options).nanmean()


def simulated(num_images: int = 200, num_voxels: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise-free responses (N, V), three repetitions (N, 3, V) and each voxel's ncsnr (V,)."""
    rng = np.random.default_rng(seed)
    ncsnr = rng.uniform(0.2, 1.5, num_voxels)
    signal = rng.standard_normal((num_images, num_voxels))
    noise = rng.standard_normal((num_images, 3, num_voxels)) / ncsnr
    repetitions = torch.from_numpy(signal[:, None] + noise).float()
    return torch.from_numpy(signal).float(), repetitions, torch.from_numpy(ncsnr)


@pytest.fixture(scope="module")
def betas() -> tuple[Tensor, Tensor]:
    """Return predicted and measured betas that correlate partly."""
    signal, repetitions, _ = simulated(40, 30)
    return 2 + 0.3 * (signal + torch.randn(40, 30, generator=torch.Generator().manual_seed(0))), repetitions.mean(1)


def test_brain_correlation_equals_scipy_and_torchmetrics(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    each = brain_correlation_per_image(predicted, measured)
    assert each.dtype == torch.float64
    expected = [pearsonr(p, m).statistic for p, m in zip(predicted.numpy(), measured.numpy(), strict=True)]
    np.testing.assert_allclose(each, expected, atol=1e-6)
    published = PearsonCorrCoef(num_outputs=40)(predicted.T, measured.T).mean()  # call of the published script
    torch.testing.assert_close(brain_correlation(predicted, measured).float(), published, rtol=1e-4, atol=1e-6)
    mask = np.arange(30) % 4 == 1
    inside = brain_correlation(predicted, measured, mask)
    torch.testing.assert_close(inside, brain_correlation(predicted[:, mask], measured[:, mask]))
    assert inside != brain_correlation(predicted, measured)


def test_voxel_correlation_equals_scipy(betas: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, measured = betas
    each = voxel_correlation_per_voxel(predicted, measured)
    expected = [pearsonr(p, m).statistic for p, m in zip(predicted.T.numpy(), measured.T.numpy(), strict=True)]
    np.testing.assert_allclose(each, expected, atol=1e-6)
    np.testing.assert_allclose(voxel_correlation(predicted, measured), np.mean(expected), atol=1e-6)
    monkeypatch.setattr(module, "_VOXELS_PER_BLOCK", 7)
    torch.testing.assert_close(voxel_correlation_per_voxel(predicted, measured), each)


def test_correlations_do_not_depend_on_units_and_order(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for score in (brain_correlation, voxel_correlation):
        value = score(predicted, measured)
        torch.testing.assert_close(score(5 * predicted - 3, measured / 2), value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(score(predicted[order], measured[order]), value)
        torch.testing.assert_close(score(measured, predicted), value)
        torch.testing.assert_close(score(measured, measured).item(), 1.0)
        torch.testing.assert_close(score(-measured, measured).item(), -1.0)


def test_shuffled_images_score_chance() -> None:
    signal, repetitions, ncsnr = simulated(300, 100)
    measured = repetitions.mean(1)
    shuffled = signal.roll(1, 0)
    low, high = bootstrap_interval(brain_correlation_per_image(shuffled, measured).numpy())
    assert low < 0 < high
    assert high - low < 0.1
    assert voxel_correlation(shuffled, measured, ncsnr=ncsnr, repetitions=3).abs() < 0.05
    assert brain_correlation(signal, measured) > 0.4


def test_common_pattern_raises_only_brain_correlation() -> None:
    signal, repetitions, _ = simulated()
    common = 3 * torch.randn(60, generator=torch.Generator().manual_seed(2))
    shuffled, measured = signal.roll(1, 0) + common, repetitions.mean(1) + common
    assert brain_correlation(shuffled, measured) > 0.5
    assert voxel_correlation(shuffled, measured).abs() < 0.1


@pytest.mark.parametrize("shown", [3, 2, 1])
def test_normalised_score_of_the_true_signal_is_one(shown: int) -> None:
    signal, repetitions, ncsnr = simulated(1500, 80, seed=shown)
    measured = repetitions[:, :shown].mean(1)
    normalised = voxel_correlation(signal, measured, ncsnr=ncsnr, repetitions=shown)
    assert normalised.item() == pytest.approx(1, abs=0.015)
    assert voxel_correlation(signal, measured) < 0.9


def test_normalised_score_with_unequal_numbers_of_repetitions() -> None:
    """Two averages of images shown twice: the published a, a, b, and the mean of the available responses."""
    signal, repetitions, ncsnr = simulated(3000, 50)
    repetitions[::3, 1] = repetitions[::3, 0]
    weights = torch.full((3000, 3), 1 / 3)
    published = effective_repetitions(repetitions)
    torch.testing.assert_close(published[:3], torch.tensor([1.8, 3, 3]).double())
    weights[::3] = torch.tensor([0.5, 0, 0.5])
    corrected = effective_repetitions(repetitions, weights)
    torch.testing.assert_close(corrected[:3], torch.tensor([2.0, 3, 3]).double(), rtol=1e-6, atol=0)
    for averaged, measured in (
        (published, repetitions.mean(1)),
        (corrected, torch.einsum("nr,nrv->nv", weights, repetitions)),
    ):
        score = voxel_correlation(signal, measured, ncsnr=ncsnr, repetitions=averaged)
        assert score.item() == pytest.approx(1, abs=0.01)


def test_voxels_below_min_ceiling_are_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_CEILING", 0.3)
    signal, repetitions, ncsnr = simulated()
    ncsnr[:20] = 0.0
    ncsnr[20] = torch.inf
    each = voxel_correlation_per_voxel(signal, repetitions.mean(1), ncsnr=ncsnr, repetitions=3)
    low = (1 / (1 + 1 / (3 * ncsnr**2))).sqrt() < 0.3
    assert low.sum() >= 20
    torch.testing.assert_close(each.isnan(), low)
    plain = voxel_correlation_per_voxel(signal, repetitions.mean(1))
    torch.testing.assert_close(each[20], plain[20])
    mask = torch.arange(60) >= 10
    options = {"ncsnr": ncsnr, "repetitions": 3}
    torch.testing.assert_close(
        voxel_correlation_per_voxel(signal, repetitions.mean(1), mask, **options), each[10:], equal_nan=True
    )
    torch.testing.assert_close(voxel_correlation(signal, repetitions.mean(1), **options), each[~low].mean())
    with pytest.raises(UserError, match=r"every voxel's noise ceiling is too low .*expected: at least 0.3"):
        voxel_correlation(signal[:, :20], repetitions.mean(1)[:, :20], ncsnr=ncsnr[:20], repetitions=3)


def test_brain_correlation_by_region(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    regions = {"nsd_general": np.ones(30, bool), "V1": np.arange(30) < 9, "V2": np.arange(30) == 3}
    scores = brain_correlation_by_region(predicted, measured, regions)
    assert list(scores) == ["nsd_general", "V1"]
    torch.testing.assert_close(scores["V1"], brain_correlation_per_image(predicted, measured, regions["V1"]))


def test_constant_predictions_score_zero(betas: tuple[Tensor, Tensor]) -> None:
    _, measured = betas
    constant = torch.full_like(measured, 0.7)
    assert brain_correlation(constant, measured) == 0
    assert voxel_correlation(constant, measured) == 0


@pytest.mark.parametrize("score", [brain_correlation, voxel_correlation])
def test_invalid_betas_raise_an_error_with_the_image(score, betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    spoilt = measured.clone()
    spoilt[7, 3] = torch.nan
    with pytest.raises(UserError, match="measured betas of image 7 contain NaN"):
        score(predicted, spoilt)
    with pytest.raises(UserError, match="predicted betas of image 7"):
        score(spoilt, measured)
    with pytest.raises(UserError, match=r"differ in shape \(got: \(40, 29\) and \(40, 30\)"):
        score(predicted[:, 1:], measured)
    with pytest.raises(UserError, match="too few images"):
        score(predicted[:0], measured[:0])
    with pytest.raises(UserError, match="too few voxels"):
        score(predicted, measured, torch.zeros(30, dtype=torch.bool))


def test_voxel_correlation_needs_two_images(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    assert brain_correlation(predicted[:1], measured[:1]).isfinite()
    with pytest.raises(UserError, match=r"too few images to correlate \(got: 1; expected: at least 2"):
        voxel_correlation(predicted[:1], measured[:1])
