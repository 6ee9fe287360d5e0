"""Brain correlation in both forms, against scipy and torchmetrics, and in a simulation with a known ceiling."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, pearsonr
from torch import Tensor
from torchmetrics import PearsonCorrCoef

from mindeye_pl.errors import UserError
from mindeye_pl.metrics import brain_correlation as module
from mindeye_pl.metrics.brain_correlation import (
    brain_correlation,
    brain_correlation_by_region,
    brain_correlation_of_each,
    voxel_correlation,
    voxel_correlation_influence,
    voxel_correlation_of_each,
)
from mindeye_pl.metrics.noise_ceiling import effective_repetitions
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval


def simulated(num_images: int = 200, num_voxels: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noise-free responses (N, V), three repetitions (N, 3, V) and each voxel's ncsnr (V,)."""
    rng = np.random.default_rng(seed)
    ncsnr = rng.uniform(0.2, 1.5, num_voxels)
    signal = rng.standard_normal((num_images, num_voxels))
    noise = rng.standard_normal((num_images, 3, num_voxels)) / ncsnr
    repetitions = torch.from_numpy(signal[:, None] + noise).float()
    return torch.from_numpy(signal).float(), repetitions, torch.from_numpy(ncsnr)


@pytest.fixture(scope="module")
def betas() -> tuple[Tensor, Tensor]:
    """Predicted and measured betas that agree somewhat."""
    signal, repetitions, _ = simulated(40, 30)
    return 2 + 0.3 * (signal + torch.randn(40, 30, generator=torch.Generator().manual_seed(0))), repetitions.mean(1)


def test_across_voxels_against_scipy_and_torchmetrics(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    each = brain_correlation_of_each(predicted, measured)
    assert each.dtype == torch.float64
    wanted = [pearsonr(p, m).statistic for p, m in zip(predicted.numpy(), measured.numpy(), strict=True)]
    np.testing.assert_allclose(each, wanted, atol=1e-6)
    published = PearsonCorrCoef(num_outputs=40)(predicted.T, measured.T).mean()  # as the published script calls it
    torch.testing.assert_close(brain_correlation(predicted, measured).float(), published, rtol=1e-4, atol=1e-6)
    mask = np.arange(30) % 4 == 1
    inside = brain_correlation(predicted, measured, mask)
    torch.testing.assert_close(inside, brain_correlation(predicted[:, mask], measured[:, mask]))
    assert inside != brain_correlation(predicted, measured)


def test_across_images_against_scipy(betas: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, measured = betas
    each = voxel_correlation_of_each(predicted, measured)
    wanted = [pearsonr(p, m).statistic for p, m in zip(predicted.T.numpy(), measured.T.numpy(), strict=True)]
    np.testing.assert_allclose(each, wanted, atol=1e-6)
    np.testing.assert_allclose(voxel_correlation(predicted, measured), np.mean(wanted), atol=1e-6)
    influence = voxel_correlation_influence(predicted, measured)
    monkeypatch.setattr(module, "_VOXELS_AT_ONCE", 7)
    torch.testing.assert_close(voxel_correlation_of_each(predicted, measured), each)
    torch.testing.assert_close(voxel_correlation_influence(predicted, measured), influence)


def test_units_and_order_change_nothing(betas: tuple[Tensor, Tensor]) -> None:
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
    for each in (
        brain_correlation_of_each(shuffled, measured),
        voxel_correlation_influence(shuffled, measured, ncsnr=ncsnr, repetitions=3),
    ):
        low, high = bootstrap_interval(each.numpy())
        assert low < 0 < high
        assert high - low < 0.1
    assert brain_correlation(signal, measured) > 0.4


def test_a_pattern_that_images_share_lifts_the_published_form_alone() -> None:
    signal, repetitions, _ = simulated()
    common = 3 * torch.randn(60, generator=torch.Generator().manual_seed(2))
    shuffled, measured = signal.roll(1, 0) + common, repetitions.mean(1) + common
    assert brain_correlation(shuffled, measured) > 0.5
    assert voxel_correlation(shuffled, measured).abs() < 0.1


@pytest.mark.parametrize("shown", [3, 2, 1])
def test_the_true_signal_scores_one(shown: int) -> None:
    """Its normalised correlation is 1 within its interval, whatever the number of repetitions."""
    signal, repetitions, ncsnr = simulated(1500, 80, seed=shown)
    measured = repetitions[:, :shown].mean(1)
    each = voxel_correlation_influence(signal, measured, ncsnr=ncsnr, repetitions=shown).numpy()
    low, high = bootstrap_interval(each)
    assert low < 1 < high
    assert high - low < 0.03
    assert voxel_correlation(signal, measured) < 0.9


def test_images_with_unlike_repetitions() -> None:
    """The published a, a, b of images that were shown twice, and the average of what there is."""
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


def test_voxels_of_too_low_ceiling_are_left_out() -> None:
    signal, repetitions, ncsnr = simulated()
    ncsnr[:20] = 0.0
    ncsnr[20] = torch.inf
    each = voxel_correlation_of_each(signal, repetitions.mean(1), ncsnr=ncsnr, repetitions=3, min_ceiling=0.3)
    low = (1 / (1 + 1 / (3 * ncsnr**2))).sqrt() < 0.3
    assert low.sum() >= 20
    torch.testing.assert_close(each.isnan(), low)
    plain = voxel_correlation_of_each(signal, repetitions.mean(1))
    torch.testing.assert_close(each[20], plain[20])
    mask = torch.arange(60) >= 10
    options = {"ncsnr": ncsnr, "repetitions": 3, "min_ceiling": 0.3}
    torch.testing.assert_close(
        voxel_correlation_of_each(signal, repetitions.mean(1), mask, **options), each[10:], equal_nan=True
    )
    torch.testing.assert_close(voxel_correlation(signal, repetitions.mean(1), **options), each[~low].mean())
    torch.testing.assert_close(
        voxel_correlation_influence(signal, repetitions.mean(1), **options).mean(), each[~low].mean()
    )
    everything = voxel_correlation_of_each(signal, repetitions.mean(1), ncsnr=ncsnr, repetitions=3, min_ceiling=0)
    torch.testing.assert_close(everything.isnan(), ncsnr == 0)  # no ceiling at all never counts
    with pytest.raises(UserError, match=r"no voxel's noise ceiling .*expected: min_ceiling=1 or more"):
        voxel_correlation(signal[:, :20], repetitions.mean(1)[:, :20], ncsnr=ncsnr[:20], repetitions=3, min_ceiling=1)


def test_influence_has_the_spread_of_the_score() -> None:
    signal, repetitions, _ = simulated(150, 6)
    predicted, measured = signal + repetitions[:, 0], repetitions[:, 1:].mean(1)
    each = voxel_correlation_influence(predicted, measured).numpy()
    assert each.mean() == pytest.approx(voxel_correlation(predicted, measured).item(), abs=1e-9)
    rows = np.arange(150)
    resampled = bootstrap(
        (rows,),
        lambda chosen: voxel_correlation(predicted[chosen.astype(int)], measured[chosen.astype(int)]).item(),
        n_resamples=400,
        vectorized=False,
        rng=np.random.default_rng(0),
    )
    assert each.std() / np.sqrt(150) == pytest.approx(resampled.standard_error, rel=0.15)


def test_regions(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    regions = {"nsd_general": np.ones(30, bool), "V1": np.arange(30) < 9, "V2": np.arange(30) == 3}
    scores = brain_correlation_by_region(predicted, measured, regions)
    assert list(scores) == ["nsd_general", "V1"]
    torch.testing.assert_close(scores["V1"], brain_correlation_of_each(predicted, measured, regions["V1"]))


def test_constant_predictions_are_unrelated(betas: tuple[Tensor, Tensor]) -> None:
    _, measured = betas
    constant = torch.full_like(measured, 0.7)
    assert brain_correlation(constant, measured) == 0
    assert voxel_correlation(constant, measured) == 0


@pytest.mark.parametrize("score", [brain_correlation, voxel_correlation])
def test_what_cannot_be_scored_is_named(score, betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    spoilt = measured.clone()
    spoilt[7, 3] = torch.nan
    with pytest.raises(UserError, match="image 7 of the measured betas holds NaN"):
        score(predicted, spoilt)
    with pytest.raises(UserError, match=r"image 'zebra\.png' of the predicted"):
        score(spoilt, measured, names=["dog.png"] * 7 + ["zebra.png"] * 33)
    with pytest.raises(UserError, match=r"do not fit each other \(got: \(40, 29\) and \(40, 30\)"):
        score(predicted[:, 1:], measured)
    with pytest.raises(UserError, match="too few images"):
        score(predicted[:0], measured[:0])
    with pytest.raises(UserError, match="too few voxels"):
        score(predicted, measured, torch.zeros(30, dtype=torch.bool))


def test_one_image_has_a_pattern_and_no_voxel_correlation(betas: tuple[Tensor, Tensor]) -> None:
    predicted, measured = betas
    assert brain_correlation(predicted[:1], measured[:1]).isfinite()
    with pytest.raises(UserError, match=r"too few images to correlate \(got: 1; expected: 2 or more"):
        voxel_correlation(predicted[:1], measured[:1])
