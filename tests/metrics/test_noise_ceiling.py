"""Noise ceilings, compared with the scores of noise-free responses in a simulation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mindeye_pl.data.layout.betas import AsPublished, read_noise_free
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.test_set import average_repetitions, load_test_set
from mindeye_pl.metrics.brain_correlation import brain_correlation_per_image
from mindeye_pl.metrics.noise_ceiling import (
    ceiling_between_repetitions_per_image,
    effective_repetitions,
    estimate_ncsnr,
    noise_ceiling,
)
from tests.metrics.test_brain_correlation import brain_correlation, simulated, voxel_correlation


def ceiling_between_repetitions(repetitions: torch.Tensor, mask: Any = None, **options: Any) -> torch.Tensor:
    return ceiling_between_repetitions_per_image(repetitions, mask, **options).nanmean()


def test_noise_ceiling_equals_the_formula_of_the_nsd_paper() -> None:
    ncsnr = torch.tensor([0.0, 0.25, 1.0, torch.inf])
    np.testing.assert_allclose(noise_ceiling(ncsnr, 3)[1:3], np.sqrt([0.0625 / (0.0625 + 1 / 3), 1 / (1 + 1 / 3)]))
    assert noise_ceiling(ncsnr, 3)[[0, 3]].tolist() == [0, 1]
    # A, B and C images shown three times, twice and once: 1/R becomes (A/3 + B/2 + C/1) / (A + B + C).
    shown = torch.tensor([3] * 5 + [2] * 4 + [1] * 2)
    np.testing.assert_allclose(
        noise_ceiling(ncsnr, shown)[2], np.sqrt(1 / (1 + (5 / 3 + 4 / 2 + 2 / 1) / 11)), rtol=1e-6
    )
    assert (noise_ceiling(ncsnr, 3)[1:3] > noise_ceiling(ncsnr, 1)[1:3]).all()


@pytest.mark.parametrize("shown", [2, 3])
def test_ceiling_between_repetitions_estimates_the_score_of_the_true_signal(shown: int) -> None:
    signal, repetitions, _ = simulated(100, 2000)
    repetitions = repetitions[:, :shown]
    truth = brain_correlation(signal, repetitions.mean(1))
    assert ceiling_between_repetitions(repetitions).item() == pytest.approx(truth.item(), abs=0.01)
    mask = torch.arange(2000) < 900
    truth = brain_correlation(signal, repetitions.mean(1), mask)
    assert ceiling_between_repetitions(repetitions, mask).item() == pytest.approx(truth.item(), abs=0.015)


def test_repeated_copies_of_a_response_count_once() -> None:
    signal, repetitions, _ = simulated(120, 2000)
    repetitions[:, 1] = repetitions[:, 0]  # a, a, b
    repetitions[:20] = repetitions[:20, :1]  # a, a, a
    each = ceiling_between_repetitions_per_image(repetitions)
    assert each[:20].isnan().all()
    truth = brain_correlation_per_image(signal, repetitions.mean(1))[20:]
    assert each[20:].mean().item() == pytest.approx(truth.mean().item(), abs=0.01)
    weights = torch.tensor([0.5, 0, 0.5]).expand(120, 3)
    truth = brain_correlation(signal[20:], repetitions[20:, [0, 2]].mean(1))
    assert ceiling_between_repetitions(repetitions, weights=weights).item() == pytest.approx(truth.item(), abs=0.01)


def test_ceiling_of_noise_is_near_zero() -> None:
    noise = torch.randn(50, 3, 4000, generator=torch.Generator().manual_seed(0))
    assert ceiling_between_repetitions(noise) < 0.15
    opposed = torch.stack([noise[:, 0], -noise[:, 0]], 1)
    assert ceiling_between_repetitions(opposed) == 0


def test_ceilings_of_the_simulated_nsd(tiny_nsd: Path, tmp_path: Path) -> None:
    """Read simulated files: noise-free responses score near 1, those of another image near 0."""
    layout = DataLayout(tiny_nsd)
    test_set = load_test_set(layout, 1, normalisation=AsPublished(), cache_dir=tmp_path)
    measured = average_repetitions(test_set.voxels, test_set.weights)
    truth = torch.from_numpy(read_noise_free(layout, 1, test_set.stimulus_ids.numpy()))
    averaged = effective_repetitions(test_set.voxels, test_set.weights)
    mask = read_regions(layout, 1)["nsd_general"]
    options = {"ncsnr": read_ncsnr(layout, 1), "repetitions": averaged}
    assert voxel_correlation(truth, measured, mask, **options).item() == pytest.approx(1, abs=0.15)
    assert voxel_correlation(truth.roll(1, 0), measured, mask, **options).abs() < 0.3
    ceiling = ceiling_between_repetitions(test_set.voxels, mask, weights=test_set.weights)
    assert ceiling.item() == pytest.approx(brain_correlation(truth, measured, mask).item(), abs=0.15)


def test_ncsnr_is_estimated_from_repetitions() -> None:
    """By a loop as NSD's data paper describes it, and close to the truth where some images have one presentation."""
    rng = np.random.default_rng(0)
    true = np.array([0.4, 0.7, 1.0, 3.0])
    ids = rng.permutation(np.concatenate([np.repeat(np.arange(900), 3), np.arange(900, 1000)]))
    betas = rng.normal(size=(1000, 4))[ids] * true + rng.normal(size=(len(ids), 4))
    estimated = estimate_ncsnr(betas, ids).numpy()
    np.testing.assert_allclose(estimated, true, rtol=0.15)
    variances = [betas[ids == image].var(0, ddof=1) for image in range(900)]
    noise = np.mean(variances, 0)
    np.testing.assert_allclose(estimated, np.sqrt(np.maximum(betas.var(0, ddof=1) - noise, 0) / noise), rtol=1e-9)


def test_ncsnr_of_noise_alone_and_of_signal_alone() -> None:
    rng, ids = np.random.default_rng(1), np.repeat(np.arange(50), 2)
    signal, noise = rng.normal(size=(50, 1))[ids], rng.normal(size=(100, 1))
    assert estimate_ncsnr(np.concatenate([signal, 5 * noise], 1), ids)[0].item() == np.inf
    assert estimate_ncsnr(noise, ids).item() < 0.5
