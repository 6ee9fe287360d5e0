"""Durations by name."""

import time

import numpy as np
import pytest

from mindeye_pl.models.clock import Clock


def test_durations_are_summed_up_by_name() -> None:
    clock = Clock()
    for _ in range(3):
        with clock("short"), clock("outer"):
            time.sleep(0.002)
    clock.add("given", 0.5)
    found = clock.latencies()
    assert list(found) == ["outer", "short", "given"]
    assert found["short"].count == 3
    assert 2 <= found["outer"].median_ms <= found["short"].p99_ms
    assert (found["given"].median_ms, found["given"].p99_ms) == (500, 500)
    assert "given" not in clock.latencies(skip=1)


def test_percentiles() -> None:
    clock, seconds = Clock(), np.random.default_rng(0).random(200)
    for one in seconds:
        clock.add("work", float(one))
    found = clock.latencies(skip=10)["work"]
    assert found.median_ms == pytest.approx(1000 * np.median(seconds[10:]))
    assert found.p99_ms == pytest.approx(1000 * np.quantile(seconds[10:], 0.99))


def test_nothing_is_measured_where_it_is_off_or_fails() -> None:
    clock = Clock(enabled=False)
    with clock("work"):
        pass
    assert not clock.seconds
    clock = Clock()
    with pytest.raises(ZeroDivisionError), clock("work"):
        1 / 0  # noqa: B018
    assert not clock.seconds
