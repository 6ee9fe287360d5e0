"""Schedules whose epochs are not all as long as the first one."""

import math

import pytest
import torch
from torch.optim import Adam, Optimizer

from mindeye_pl.models.schedule import published_onecycle, step_decay


def optimizer(*lr_scales: float) -> Optimizer:
    torch.manual_seed(0)
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr_scale": scale} for scale in lr_scales or (1.0,)]
    return Adam(groups, lr=2e-4)


def rates(made: Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return found


def test_onecycle_peaks_after_two_epochs_and_ends_with_the_last_step() -> None:
    made = optimizer()
    schedule = published_onecycle(made, iterations_per_epoch=[4] * 4 + [2] * 4, max_lr=1e-3)
    found = rates(made, schedule, 24)
    assert found.index(max(found)) == 2 * 4 - 1
    assert found[-1] < 1e-6
    with pytest.raises(ValueError, match="25 times"):
        rates(made, schedule, 1)


@pytest.mark.parametrize(("epochs", "peak"), [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5), (5, 0.4), (8, 0.25)])
def test_onecycle_peaks_half_way_in_short_trainings(epochs: int, peak: float) -> None:
    """The cosine of torch's one-cycle schedule, from a 25th to the peak and to a 25,000th, written out."""
    per_epoch, top = 10, 1e-3
    steps = per_epoch * epochs
    made = optimizer()
    found = rates(made, published_onecycle(made, iterations_per_epoch=[per_epoch] * epochs, max_lr=top), steps)
    highest = peak * steps - 1

    def cosine(start: float, end: float, part: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * part)) / 2

    expected = [
        cosine(top / 25, top, step / highest)
        if step <= highest
        else cosine(top, top / 25_000, (step - highest) / (steps - 1 - highest))
        for step in range(steps)
    ]
    assert found == pytest.approx(expected)


def test_the_rate_falls_after_every_few_epochs() -> None:
    made = optimizer(1.0, 0.5)
    schedule = step_decay(made, iterations_per_epoch=[4, 4, 4, 1, 1], factor=0.5, every=2)
    assert [group["lr"] for group in made.param_groups] == [2e-4, 1e-4]
    found = rates(made, schedule, 14)
    assert found == pytest.approx([2e-4] * 8 + [1e-4] * 5 + [0.5e-4])


@pytest.mark.parametrize(
    ("restart", "expected"), [("published", [1, 1, 0.5, 1, 1, 0.5]), ("corrected", [1, 1, 0.5, 0.5, 0.25, 0.25])]
)
def test_the_second_stage_begins_with_the_first_rate_as_published(restart: str, expected: list[float]) -> None:
    """Stages of three epochs, the second with half as many steps; a decay after every two epochs of a stage."""
    made = optimizer()
    how = {"factor": 0.5, "every": 2, "restart": restart, "first_share": 0.5}
    schedule = step_decay(made, iterations_per_epoch=[4, 4, 4, 2, 2, 2], **how)
    found = rates(made, schedule, 18)
    steps = [4, 4, 4, 2, 2, 2]
    assert found == pytest.approx(
        [2e-4 * rate for rate, count in zip(expected, steps, strict=True) for _ in range(count)]
    )


@pytest.mark.parametrize("first_share", [0.0, 1.0])
def test_a_training_of_one_stage_has_no_restart(first_share: float) -> None:
    made = optimizer()
    schedule = step_decay(made, iterations_per_epoch=[1] * 6, factor=0.5, every=2, first_share=first_share)
    assert rates(made, schedule, 6) == pytest.approx([2e-4, 2e-4, 1e-4, 1e-4, 0.5e-4, 0.5e-4])


@pytest.mark.parametrize("moments", ["published", "corrected"])
def test_a_restart_is_a_new_optimiser(moments: str) -> None:
    """Two runs by hand, the second from the weights of the first."""
    parameter = torch.nn.Parameter(torch.ones(2))
    made = Adam([parameter], lr=0.1)
    schedule = step_decay(made, iterations_per_epoch=[2, 2], every=10, moments=moments, first_share=0.5)
    by_hand = torch.nn.Parameter(torch.ones(2))
    for step in range(4):
        if step % 2 == 0:
            run = Adam([by_hand], lr=0.1)
        for one, its in ((parameter, made), (by_hand, run)):
            one.grad = one.detach() + step
            its.step()
        schedule.step()
    torch.testing.assert_close(parameter, by_hand)


@pytest.mark.parametrize("moments", ["published", "corrected"])
def test_moments_are_reset_at_each_decay_as_published(moments: str) -> None:
    """As two optimisers, one after the other, where they do."""
    parameter = torch.nn.Parameter(torch.ones(2))
    made = Adam([parameter], lr=0.1)
    schedule = step_decay(made, iterations_per_epoch=[2] * 4, factor=0.5, every=2, moments=moments)
    by_hand = torch.nn.Parameter(torch.ones(2))
    for step in range(8):
        if step == 0 or (step == 4 and moments == "published"):
            second = Adam([by_hand], lr=0.1 * 0.5 ** (step // 4))
        second.param_groups[0]["lr"] = 0.1 * 0.5 ** (step // 4)
        for one, its in ((parameter, made), (by_hand, second)):
            one.grad = one.detach() + step
            its.step()
        schedule.step()
    torch.testing.assert_close(parameter, by_hand)
