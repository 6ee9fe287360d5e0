"""Losses equal the recorded values of the published code."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mindeye_pl.losses.contrastive import (
    bimixco_loss,
    info_nce_loss,
    soft_contrastive_loss,
    softclip_loss,
    temperature_schedule,
)
from mindeye_pl.losses.mixco import MixCo, mix_voxels
from mindeye_pl.models.schedule import published_onecycle
from tests.golden import weights

CASE = Path(weights.__file__).parent / "objective" / "objective_and_metrics.safetensors"


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    return load_file(CASE)


def mixing(io: dict[str, Tensor], **options: str) -> MixCo:
    weight = torch.where(io["mixco.select"], io["mixco.betas_in"], torch.ones(()))
    return MixCo(io["mixco.perm"], weight, (len(weight),), **options)


def test_mixco_equals_the_published_code(io: dict[str, Tensor]) -> None:
    drawn = mixing(io)
    torch.testing.assert_close(drawn.weight, io["mixco.betas_out"])
    (mixed,) = mix_voxels([io["mixco.voxels"][:, 0]], drawn)
    torch.testing.assert_close(mixed, io["mixco.voxels_out"][:, 0])


def test_bimixco_overwrites_the_diagonal_as_published(io: dict[str, Tensor]) -> None:
    preds, targets = io["preds"].flatten(1), io["targets"].flatten(1)
    loss = bimixco_loss(preds, targets, mixing(io), temperature=0.006)
    torch.testing.assert_close(loss, io["bimixco.loss"][0], rtol=1e-4, atol=0)
    corrected = bimixco_loss(preds, targets, mixing(io, diagonal="corrected"), temperature=0.006)
    fixed = (io["mixco.perm"] == torch.arange(12)).any()
    assert fixed == (abs(corrected - loss) > 1e-6)


def test_info_nce_equals_the_published_code(io: dict[str, Tensor]) -> None:
    loss = info_nce_loss(io["preds"].flatten(1), io["targets"].flatten(1), temperature=0.006)
    torch.testing.assert_close(loss, io["infonce.loss"][0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("temperature", [0.004, 0.006, 0.0075, 0.125])
def test_softclip_equals_the_published_code(io: dict[str, Tensor], temperature: float) -> None:
    loss = softclip_loss(io["preds"].flatten(1), io["targets"].flatten(1), temperature=temperature)
    torch.testing.assert_close(loss, io[f"softclip.loss.{temperature}"][0], rtol=1e-4, atol=0)


def test_temperature_schedule_equals_the_published_code(io: dict[str, Tensor]) -> None:
    schedule = temperature_schedule(150 - int(0.33 * 150), start=0.004, end=0.0075)
    torch.testing.assert_close(torch.tensor(schedule), io["softclip.temps.150"], rtol=1e-5, atol=0)
    assert temperature_schedule(1, start=0.004, end=0.0075) == [0.004]


@pytest.mark.parametrize(("epochs", "iterations"), [(12, 7), (150, 31)])
def test_onecycle_equals_the_published_code(io: dict[str, Tensor], epochs: int, iterations: int) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=3e-4)
    schedule = published_onecycle(optimizer, iterations_per_epoch=[iterations] * epochs, max_lr=3e-4)
    rates, betas = [], []
    for _ in range(epochs * iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        betas.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        if len(rates) < epochs * iterations:
            schedule.step()
    recorded = io[f"onecycle.{epochs}x{iterations}.lr"]
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), recorded, rtol=1e-6, atol=1e-12)
    recorded = io[f"onecycle.{epochs}x{iterations}.beta1"]
    torch.testing.assert_close(torch.tensor(betas, dtype=torch.float64), recorded, rtol=1e-6, atol=0)


def test_onecycle_of_few_epochs_still_cycles() -> None:
    for epochs in (1, 2, 3):
        optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule = published_onecycle(optimizer, iterations_per_epoch=[4] * epochs, max_lr=1.0)
        rates = []
        for _ in range(4 * epochs):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step() if len(rates) < 4 * epochs else None
        assert math.isclose(max(rates), 1.0)
        assert rates[0] < 0.1
        assert rates[-1] < 0.1


def test_soft_contrastive_equals_the_published_code(io: dict[str, Tensor]) -> None:
    vectors = (io[f"softcont.{name}"] for name in ("student", "teacher", "teacher_aug"))
    torch.testing.assert_close(soft_contrastive_loss(*vectors), io["softcont.loss.0.2"][0], rtol=1e-4, atol=0)
