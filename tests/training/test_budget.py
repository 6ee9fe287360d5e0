"""A budget in optimiser steps is the same training for every amount of data."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mindeye_pl.errors import UserError
from mindeye_pl.training.budget import Budget
from tests.conftest import CommandLine

COMMAND = ("+experiment=scratch", "scale=tiny", "logger=none", "pipeline.steps=[finetune]")
BUDGET = ("finetune.epochs=3", "finetune.max_steps=15")


def test_steps_are_divided_among_epochs() -> None:
    budget = Budget.of(OmegaConf.create({"epochs": 20, "max_steps": 620}), "finetune")
    assert budget.batches_per_epoch(None) == 31
    assert budget.batches_per_epoch(2) == 62, "two batches make one step"
    assert Budget.of(OmegaConf.create({"epochs": 20, "max_steps": None}), "finetune").batches_per_epoch(2) is None


@pytest.mark.parametrize(
    ("exponent", "sessions", "steps"),
    [(0.5, 0.25, 320), (0.5, 1, 320), (0.5, 2, 460), (0.5, 10, 1020), (1.0, 0.25, 320), (1.0, 3, 960), (1.0, 10, 3200)],
)
def test_steps_grow_with_the_amount_of_data(exponent: float, sessions: float, steps: int) -> None:
    node = OmegaConf.create({"epochs": 20, "max_steps": 320, "steps_exponent": exponent})
    assert Budget.of(node, "finetune", sessions).max_steps == steps
    assert Budget.of(node, "finetune", sessions).batches_per_epoch(None) == steps // 20
    node.steps_exponent = 0.0
    assert Budget.of(node, "finetune", sessions).max_steps == 320


@pytest.mark.parametrize(("steps", "fix"), [(621, 620), (635, 640), (3, 20)])
def test_steps_that_epochs_do_not_divide_are_refused(steps: int, fix: int) -> None:
    with pytest.raises(UserError, match=f"pretrain.max_steps is not a multiple .*pretrain.max_steps={fix}"):
        Budget.of(OmegaConf.create({"epochs": 20, "max_steps": steps}), "pretrain")


def test_the_same_steps_and_learning_rates_for_every_amount_of_data(cli: CommandLine) -> None:
    rates, folders = [], cli.outputs / "artifacts" / "finetune"
    for sessions in ("0.5", "1", "all"):
        code, out, err = cli(*COMMAND, *BUDGET, f"data.num_sessions={sessions}")
        assert code == 0, err
        assert "for 15 steps, in 3 epochs of 5 steps" in out
        assert "step 10 of 15: loss" in out
    for folder in folders.glob("subj*"):
        history = json.loads((folder / "history.json").read_text())
        rates.append([record["learning_rate"] for record in history])
        kept = json.loads((folder / "validation.json").read_text())
        assert kept["epoch"] == 3
    assert len(rates) == 3
    assert rates[0] == rates[1] == rates[2]
    assert len(rates[0]) == 3


def test_all_sessions_are_counted(cli: CommandLine) -> None:
    """Tiny subjects have four sessions, so that an exponent of one half doubles the steps."""
    code, out, err = cli(*COMMAND, *BUDGET, "finetune.steps_exponent=0.5", "data.num_sessions=all")
    assert code == 0, err
    assert "for 30 steps, in 3 epochs of 10 steps" in out


def test_a_trained_model_has_made_so_many_steps(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning import Trainer

    made: list[tuple[int, int, int]] = []
    fit = Trainer.fit

    def counting(self: Trainer, *args: object, **more: object) -> None:
        fit(self, *args, **more)  # type: ignore[arg-type]
        made.append((self.global_step, self.max_steps, int(self.estimated_stepping_batches)))

    monkeypatch.setattr(Trainer, "fit", counting)
    code, _, err = cli(*COMMAND, *BUDGET, "+trainer.accumulate_grad_batches=2")
    assert code == 0, err
    assert made == [(15, 15, 15)]


def test_a_budget_that_does_not_divide_ends_in_one_line(cli: CommandLine) -> None:
    says = ("finetune.max_steps", "16 steps in 3 epochs", "finetune.max_steps=15")
    cli.refuses(*COMMAND, "finetune.epochs=3", "finetune.max_steps=16", says=says)


def kept_scores(folder: Path) -> dict[str, float]:
    return {score["name"]: score["value"] for score in json.loads((folder / "validation.json").read_text())["scores"]}


def test_scores_of_the_kept_weights(cli: CommandLine) -> None:
    best = ("finetune.keep=best_validation", "finetune.validation_score=image_retrieval", "data.validation_images=9")
    code, out, err = cli(*COMMAND, *best, "finetune.epochs=4")
    assert code == 0, err
    folder = cli.made("finetune")
    history = json.loads((folder / "history.json").read_text())
    rates = [record["validation/image_retrieval"] for record in history]
    assert kept_scores(folder)["validation_image_retrieval"] == max(rates)
    assert history[0]["validation/pool_size"] >= 9
    assert f"after epoch {rates.index(max(rates)) + 1}, whose validation image retrieval is the highest" in out
