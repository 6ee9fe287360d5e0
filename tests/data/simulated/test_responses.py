"""Betas, ncsnr and noise-free responses of a simulated world."""

from dataclasses import replace

import h5py
import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.simulated.world import simulate_nsd
from tests.data.simulated.small_world import SMALL, behaviour, betas, ncsnr, read_shard


def test_betas_are_zscored_by_each_sessions_training_trials(small):
    for subject in SMALL.subjects:
        values, rows = betas(small, subject), behaviour(small, subject)
        for session in range(1, SMALL.sessions_of(subject) + 1):
            training = (rows[:, Behaviour.SESSION] == session) & (rows[:, Behaviour.IS_SHARED1000] == 0)
            np.testing.assert_allclose(values[training].mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(values[training].std(0), 1, atol=1e-5)  # population


def test_ncsnr_equals_the_estimate_from_repetitions(small):
    """Estimate ncsnr as NSD does: noise from the variance within images, signal from the rest."""
    for subject in SMALL.subjects:
        values, ids = betas(small, subject), behaviour(small, subject)[:, Behaviour.STIMULUS]
        within, freedom = np.zeros(values.shape[1]), 0
        for id_ in np.unique(ids):
            repetitions = values[ids == id_].astype(float)
            within += ((repetitions - repetitions.mean(0)) ** 2).sum(0)
            freedom += len(repetitions) - 1
        noise = within / freedom
        estimate = np.sqrt(np.maximum(values.var(0) - noise, 0) / noise)
        known = ncsnr(small, subject)
        assert np.corrcoef(estimate, known)[0, 1] > 0.95
        assert abs(np.median(estimate / known) - 1) < 0.08


def test_noise_free_responses_reach_the_noise_ceiling(small):
    for subject in SMALL.subjects:
        values, ids = betas(small, subject), behaviour(small, subject)[:, Behaviour.STIMULUS]
        with h5py.File(small.noise_free(subject)) as file:
            seen, responses = file["stimulus_ids"][:], file["responses"][:]
        np.testing.assert_array_equal(seen, np.unique(ids))
        known = ncsnr(small, subject)
        np.testing.assert_allclose(responses.std(0), known / np.sqrt(1 + known**2), rtol=1e-3)  # the betas' units
        np.testing.assert_allclose(responses.mean(0), 0, atol=1e-4)
        three = [id_ for id_ in seen if (ids == id_).sum() == 3]
        mean = np.stack([values[ids == id_].mean(0) for id_ in three])
        signal = responses[np.searchsorted(seen, three)]
        correlation = ((mean - mean.mean(0)) * (signal - signal.mean(0))).mean(0) / (mean.std(0) * signal.std(0))
        expected = known / np.sqrt(known**2 + 1 / 3)
        assert np.abs(correlation - expected).max() < 0.12
        assert abs((correlation - expected).mean()) < 0.02
        factor = ((mean - mean.mean(0)) * signal).mean(0) / signal.var(0)
        assert abs(np.median(factor) - 1) < 0.05  # the units are equal too


def test_world_without_noise(tiny_settings, tmp_path):
    simulate_nsd(replace(tiny_settings, noise_level=0.0), tmp_path, workers=0, progress=False)
    layout = DataLayout(tmp_path)
    assert np.isinf(ncsnr(layout, 1)).all()
    values = betas(layout, 1)
    rows = np.concatenate([sample["behav"] for sample in read_shard(layout.shard(1, "train", 0)).values()])
    repeated = rows[rows[:, Behaviour.IS_OLD_CURRENT] == 1]
    for row in repeated:
        first = rows[rows[:, Behaviour.STIMULUS] == row[Behaviour.STIMULUS]][0]
        rows_of_both = [int(one[Behaviour.BETA_ROW]) for one in (first, row)]
        np.testing.assert_array_equal(*values[rows_of_both])
