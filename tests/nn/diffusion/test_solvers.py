"""The published UniPC, written out from its formulas over a table of alphas."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from mindeye_pl.nn.diffusion.solvers import integrate, training_sigmas, unipc_published

STEPS = 20


def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal, noise and half the logarithm of their ratio squared at each of the thousand timesteps."""
    ratio = training_sigmas().numpy()
    signal = 1 / np.sqrt(1 + ratio**2)
    return signal, ratio * signal, -np.log(ratio)


def weights(h: float, ratios: list[float]) -> np.ndarray:
    """The coefficients that make the update exact up to the order of `ratios`, for B(h) = e^h - 1 ("bh2")."""
    b, phi, factorial = np.expm1(-h), np.expm1(-h) / -h - 1, 1.0
    right = []
    for order in range(1, len(ratios) + 1):
        right.append(phi * factorial / b)
        factorial *= order + 1
        phi = phi / -h - 1 / factorial
    return np.linalg.solve(np.array([[r**k for r in ratios] for k in range(len(ratios))]), np.array(right))


def written_out(x: Tensor, noise_in: object, begin: int) -> Tensor:
    """Predictor and corrector of second order on predictions of the clean latents; lower orders at the two ends."""
    signal, noise, half_log = tables()
    times = np.linspace(0, 999, STEPS + 1).round()[::-1].astype(int)[begin:]
    clean: list[Tensor] = []
    before = x
    for place, (time, after) in enumerate(pairwise(times)):
        seen = (x - noise[time] * noise_in(x, time)) / signal[time]  # type: ignore[operator]
        if place:  # the step that led here is made again with what is seen here
            came, h = times[place - 1], half_log[time] - half_log[times[place - 1]]
            x = noise[time] / noise[came] * before - signal[time] * np.expm1(-h) * clean[-1]
            if place == 1:
                x = x - signal[time] * np.expm1(-h) * 0.5 * (seen - clean[-1])
            else:
                r = (half_log[times[place - 2]] - half_log[came]) / h
                first, last = weights(h, [r, 1.0])
                slope = (clean[-2] - clean[-1]) / r
                x = x - signal[time] * np.expm1(-h) * (first * slope + last * (seen - clean[-1]))
        clean.append(seen)
        before, h = x, half_log[after] - half_log[time]
        x = noise[after] / noise[time] * before - signal[after] * np.expm1(-h) * seen
        if place and place < len(times) - 2:  # the last step is of first order
            r = (half_log[times[place - 1]] - half_log[time]) / h
            x = x - signal[after] * np.expm1(-h) * 0.5 * (clean[-2] - seen) / r
    return x


@pytest.mark.parametrize("begin", [0, 3])
def test_published_unipc_is_the_written_out_one(begin: int) -> None:
    start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()

    def noise_in(x: Tensor, time: int) -> Tensor:
        return torch.tanh(x * (0.5 + time / 1000)) + 0.1

    found = integrate(
        unipc_published(STEPS), start, lambda scaled, times: noise_in(scaled, int(times[0])), guidance=1.0, begin=begin
    )
    torch.testing.assert_close(found.double(), written_out(start, noise_in, begin), rtol=1e-3, atol=1e-4)


def test_published_timesteps_and_the_noise_that_is_left() -> None:
    scheduler = unipc_published(STEPS)
    assert scheduler.timesteps.tolist()[:4] == [999, 949, 899, 849]
    assert scheduler.timesteps.tolist()[-1] == 50
    torch.testing.assert_close(scheduler.sigmas[-1].double(), training_sigmas()[0], rtol=1e-4, atol=0)
    assert scheduler.init_noise_sigma == 1
