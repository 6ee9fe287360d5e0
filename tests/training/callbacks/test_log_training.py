from types import SimpleNamespace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn

from mindeye_pl.training.callbacks.history import TrackTraining, group_names


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.alignment, self.backbone = nn.Linear(2, 2), nn.Linear(2, 2)


def optimizer(model: Model) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": [*model.alignment.parameters()], "weight_decay": 0.1},
            {"params": [model.backbone.weight], "weight_decay": 0.1, "lr": 0.5},
            {"params": [model.backbone.bias], "weight_decay": 0.0},
        ],
        lr=0.25,
    )


def trainer(model: Model, step: int, metrics: dict[str, float] | None = None) -> Any:
    values = {name: torch.tensor(value) for name, value in (metrics or {}).items()}
    return SimpleNamespace(
        global_step=step, is_global_zero=True, callback_metrics=values, optimizers=[optimizer(model)]
    )


def test_groups_are_named_by_their_part() -> None:
    model = Model()
    assert group_names(model, optimizer(model)) == ["alignment", "backbone", "backbone_no_decay"]
    everything = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    assert group_names(model, everything) == ["alignment+backbone"]
    plain = torch.optim.SGD(model.parameters(), lr=1.0)
    assert group_names(model, plain) == ["alignment+backbone"]
    halves = [{"params": [model.alignment.weight]}, {"params": [model.alignment.bias]}]
    assert group_names(model, torch.optim.SGD(halves, lr=1.0, weight_decay=0.1)) == ["alignment", "alignment_group2"]


def test_rows_of_steps_and_epochs_repeat_nothing() -> None:
    model, rows = Model(), []
    record = {"epoch": 0, "train/loss": 3.0, "validation/loss": 4.0, "learning_rate": 0.25}
    record |= {"seconds": 1.0, "trials_per_second": 8.0, "peak_memory_gb": 0.5}
    history: Any = SimpleNamespace(records=[record])
    callback = TrackTraining(lambda values, step: rows.append((step, dict(values))), history, every_n_steps=2)
    metrics = {"train/loss_step": 2.0, "train/loss_epoch": 3.0, "train/loss": 2.0, "validation/loss": 9.0}
    for step in (1, 2, 2, 3, 4):  # one step over two batches
        callback.on_train_batch_end(trainer(model, step, metrics), model, None, None, 0)
    callback.on_train_epoch_end(trainer(model, 4), model)
    callback.on_train_epoch_end(trainer(model, 5), model)
    rates = {"lr/alignment": 0.25, "lr/backbone": 0.5, "lr/backbone_no_decay": 0.25}
    epoch = {"epoch": 0, "train/loss": 3.0, "validation/loss": 4.0, "performance/seconds": 1.0}
    epoch |= {"performance/trials_per_second": 8.0, "performance/peak_memory_gb": 0.5}
    assert rows == [
        (2, {"train_step/loss": 2.0} | rates),
        (4, {"train_step/loss": 2.0} | rates),
        (4, epoch),
        (5, epoch | rates),
    ]
    assert history.records == [record], "the report's history stays as it is"


def test_other_processes_log_nothing() -> None:
    model, rows = Model(), []
    callback = TrackTraining(lambda values, step: rows.append(step), SimpleNamespace(records=[{}]), every_n_steps=1)  # type: ignore[arg-type]
    other = trainer(model, 1)
    other.is_global_zero = False
    callback.on_train_batch_end(other, model, None, None, 0)
    callback.on_train_epoch_end(other, model)
    assert rows == []
