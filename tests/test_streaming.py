"""Running z-scores, compared with those of the whole session."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import zscore

from mindeye_pl.streaming import RunningZScore


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(arrays(np.float32, (7, 3), elements=st.floats(-1e4, 1e4, width=32)), st.integers(0, 6))
def test_each_trial_is_scored_by_all_trials_so_far(betas: np.ndarray, baseline: int) -> None:
    running = RunningZScore(3)
    running.update(betas[:baseline])
    for n in range(baseline, 7):
        found, so_far = running(betas[n]), betas[: n + 1].astype(np.float64)
        varies = so_far.std(0) > 1e-3 * (1 + np.abs(so_far).max(0))
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = zscore(so_far, axis=0)[-1]
        np.testing.assert_allclose(found[varies], wanted[varies], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found[np.ptp(so_far, axis=0) == 0], 0)
    np.testing.assert_allclose(running.mean, betas.astype(np.float64).mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(running.std, betas.astype(np.float64).std(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_large_mean_loses_no_precision(offset: float) -> None:
    betas = np.random.default_rng(0).standard_normal((500, 2)) + offset
    running = RunningZScore(2)
    running.update(betas)
    np.testing.assert_allclose(running.std, betas.std(0), rtol=1e-9)
