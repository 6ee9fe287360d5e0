"""Lightning's training of a brain decoder on two ranks: optimiser steps, schedule, logged numbers, weights."""

import os
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader

from tests.distributed.two_ranks import on_two_ranks
from tests.models.test_mindeye2 import batch, system

pytestmark = pytest.mark.slow

BATCHES, EPOCHS = 5, 3
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
}


def fit(rank: int, accumulate: int, folder: str, **options: Any) -> dict[str, Any]:
    """Five batches a rank in each of three epochs; every rank validates on the same two."""
    model = system()
    trainer = Trainer(
        accelerator="cpu", max_epochs=EPOCHS, accumulate_grad_batches=accumulate, default_root_dir=folder,
        **QUIET, **options,
    )  # fmt: skip
    torch.manual_seed(rank)
    train = DataLoader([batch(seed=10 * rank + i) for i in range(BATCHES)], batch_size=None)
    held_out = DataLoader([batch(seed=90), batch(seed=91)], batch_size=None)
    before = trainer.validate(model, held_out, verbose=False)[0]
    trainer.fit(model, train)
    (scheduler,) = (config.scheduler for config in trainer.lr_scheduler_configs)
    return {
        "optimizer_steps": trainer.global_step,
        "schedule_steps": scheduler.last_epoch,
        "schedule_length": scheduler.total_steps,
        "validation": before,
        "loss": float(trainer.callback_metrics["train/loss_epoch"]),
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
    }


def fit_on_a_rank(rank: int, folder: str) -> dict[int, dict[str, Any]]:
    os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE="2")
    found = {}
    for accumulate in (1, 2):
        options = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()]}
        found[accumulate] = fit(rank, accumulate, folder, **options)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    return on_two_ranks(fit_on_a_rank, folder, str(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    folder = str(tmp_path_factory.mktemp("alone"))
    return {accumulate: fit(0, accumulate, folder, devices=1) for accumulate in (1, 2)}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_schedule_counts_optimiser_steps_of_one_rank(accumulate: int, ranks: list, alone: dict) -> None:
    steps = EPOCHS * -(-BATCHES // accumulate)
    for found in (ranks[0][accumulate], ranks[1][accumulate], alone[accumulate]):
        assert found["optimizer_steps"] == found["schedule_steps"] == found["schedule_length"] == steps


def test_every_rank_validates_on_all_held_out_images(ranks: list, alone: dict) -> None:
    wanted = alone[1]["validation"]
    for name in ("validation/contrastive", "validation/image_retrieval", "validation/brain_retrieval"):
        for rank in range(2):
            assert ranks[rank][1]["validation"][name] == pytest.approx(wanted[name], rel=1e-5), name
    assert ranks[0][1]["validation"]["validation/pool_size"] == 12


def test_the_logged_loss_is_that_of_both_shards(ranks: list, alone: dict) -> None:
    first, second = (found[1]["loss"] for found in ranks)
    assert first == second
    assert first != alone[1]["loss"]


def test_ranks_draw_differently_and_stay_equal(ranks: list) -> None:
    for accumulate in (1, 2):
        one, other = (found[accumulate]["weights"] for found in ranks)
        assert all(torch.equal(one[name], other[name]) for name in one)
