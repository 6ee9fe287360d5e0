"""The groups `callbacks`, `logger` and `trainer`: what users add on the command line reaches Lightning."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import RichProgressBar

from mindeye_pl.config import compose_config
from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.training.callbacks.epoch_seed import EpochSeed
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks
from tests.conftest import CommandLine

SCRATCH = ("+experiment=scratch", "scale=tiny", "pipeline.steps=[finetune]")
NONE = "logger=none"
EARLY = "callbacks=[default,early_stopping]"


class Counter(Callback):
    """A user's callback."""

    ends = 0

    def __init__(self, by: int = 1):
        self.by = by

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        Counter.ends += self.by


def test_default_callbacks() -> None:
    settings = TrainingSettings.of(compose_config(["scale=tiny", "callbacks.checkpoint.every_n_minutes=5"]), "finetune")
    (checkpoint,) = settings.build_callbacks()  # no progress bar outside a terminal
    assert isinstance(checkpoint, ResumeCheckpoint)
    assert checkpoint.every_n_minutes == 5
    assert settings.build_loggers() == []


def test_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(console), "is_terminal", property(lambda self: True))
    settings = TrainingSettings.of(compose_config(["scale=tiny"]), "finetune")
    assert [type(one) for one in settings.build_callbacks()] == [ResumeCheckpoint, RichProgressBar]
    settings = TrainingSettings.of(compose_config(["scale=tiny", "callbacks.progress_bar=null"]), "finetune")
    assert [type(one) for one in settings.build_callbacks()] == [ResumeCheckpoint]


def test_loggers_are_filed_by_training() -> None:
    config = compose_config(["scale=tiny", "logger=[wandb,csv]", "paths.outputs=/outputs"])
    (logger,) = TrainingSettings.of(config, "finetune/subj01").build_loggers()
    assert str(logger.save_dir) == "/outputs/csv"
    assert logger.name == "finetune/subj01"


def test_only_callbacks_that_may_change_weights_are_in_fingerprints() -> None:
    assert determined_by_callbacks(compose_config(["callbacks=[default,lr_monitor]"])) == {}
    (key,) = determined_by_callbacks(compose_config([EARLY]))
    assert key == "callbacks.early_stopping"
    with pytest.raises(UserError, match=r"callbacks\.mine names no class .*_target_"):
        determined_by_callbacks(compose_config(["+callbacks.mine.by=2"]))


def test_a_callback_of_the_users_own(cli: CommandLine) -> None:
    Counter.ends = 0
    mine = ("+callbacks.mine._target_=tests.training.test_groups.Counter", "+callbacks.mine.by=3")
    code, _, err = cli(*SCRATCH, NONE, *mine)
    assert code == 0, err
    assert Counter.ends == 2 * 3
    manifest = json.loads((cli.made("finetune") / "manifest.json").read_text())
    assert manifest["determined_by"]["callbacks.mine"]["by"] == 3


def test_early_stopping(cli: CommandLine) -> None:
    stops = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.mode=max", "finetune.epochs=8")
    code, _, err = cli(*SCRATCH, NONE, EARLY, *stops)
    assert code == 0, err
    assert len(json.loads((cli.made("finetune") / "history.json").read_text())) < 8


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_csv_has_lightnings_metrics_of_both_parts_of_a_stopped_training(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*SCRATCH, "logger=csv", "callbacks=[default,lr_monitor]", "trainer.log_every_n_steps=2")
    start = EpochSeed.on_train_batch_start

    def stop(self: EpochSeed, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        start(self, trainer, module, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == (1, 4):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(EpochSeed, "on_train_batch_start", stop)
        assert cli(*command)[0] == 143
    code, _, err = cli(*command)
    assert code == 0, err
    folder = cli.outputs / "csv" / "finetune"
    first, second = (rows(next(folder.glob(f"*/version_{version}/metrics.csv"))) for version in (0, 1))
    assert {"train/loss_step", "train/loss_epoch", "validation/loss", "epoch", "step"} <= set(first[0])
    assert any(name.startswith("lr-AdamW") for name in first[0])
    steps = [[int(row["step"]) for row in part if row["train/loss_step"]] for part in (first, second)]
    assert steps == [[1, 3, 5, 7, 9, 11], [13, 15]]
    means = [row["train/loss_epoch"] for row in [*first, *second] if row["train/loss_epoch"]]
    history = json.loads((cli.made("finetune") / "history.json").read_text())
    assert [round(float(mean), 4) for mean in means] == [round(one["train/loss"], 4) for one in history]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("callbacks=[default,lr_monitor]",), ("LearningRateMonitor", "no logger")),
        (("+trainer.logger=true",), ("trainer.logger", "the group logger")),
        (("+callbacks.mine.by=2",), ("callbacks.mine has a wrong value", "_target_")),
        (("+trainer.val_check_interval=1.5",), ("trainer.val_check_interval is refused by Trainer", "in [0.0, 1.0]")),
    ],
)
def test_lightnings_errors_are_one_line(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*SCRATCH, NONE, *more, says=says)


@pytest.mark.parametrize(
    "more",
    [
        ("+trainer.fast_dev_run=true",),
        ("+trainer.fast_dev_run=true", "finetune.keep=best_validation"),
        ("+trainer.overfit_batches=2",),
        ("+trainer.limit_train_batches=3", "+trainer.limit_val_batches=0"),
        ("+trainer.enable_checkpointing=false", "+trainer.max_epochs=1", "+trainer.num_sanity_val_steps=1"),
        ("+trainer.detect_anomaly=true", "+trainer.enable_model_summary=true", "+trainer.gradient_clip_val=1.0"),
    ],
    ids=lambda more: more[0].split(".")[1],
)
def test_trainer_options_reach_lightning(cli: CommandLine, more: tuple[str, ...]) -> None:
    code, out, err = cli(*SCRATCH, NONE, *more)
    assert code == 0, err
    steps = {"fast_dev_run": 1, "overfit_batches": 2, "limit_train_batches": 3}.get(more[0][9:].split("=")[0], 8)
    assert f"of {steps} steps" in out
