"""The kept weights are those of the lowest validation loss, after a stop too."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from mindeye_pl.errors import UserError
from mindeye_pl.training.callbacks.best_weights import LowestLoss

LOSSES = (3.0, 1.0, 2.0, 0.5, float("nan"), 0.7)


class CountsEpochs(LightningModule):
    """Its weight is the number of the epochs that are done; its validation loss is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Sequence[torch.Tensor], batch_index: int) -> torch.Tensor:
        return -self.weight  # a gradient of -1

    def validation_step(self, batch: Sequence[torch.Tensor], batch_index: int) -> None:
        self.log("validation/loss", torch.tensor(LOSSES[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Stop(Callback):
    """Dies where an epoch begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def train(folder: Path, epochs: int, *more: Callback, every: int = 1) -> LowestLoss:
    lowest, last = LowestLoss(folder / "lowest.ckpt"), folder / "last.ckpt"
    saved = ModelCheckpoint(
        folder, filename="last", every_n_epochs=every, save_on_train_epoch_end=True, enable_version_counter=False
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*more, lowest, saved],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader(TensorDataset(torch.zeros(1, 1)))
    going_on = str(last) if last.exists() else None
    trainer.fit(CountsEpochs(), batches, batches, ckpt_path=going_on, weights_only=True)
    return lowest


@pytest.mark.parametrize(("epochs", "kept"), [(1, 1), (3, 2), (4, 4), (6, 4)])
def test_of_the_lowest_validation_loss(tmp_path: Path, epochs: int, kept: int) -> None:
    lowest = train(tmp_path, epochs)
    assert lowest.weights()["weight"] == kept
    assert lowest.epoch == kept - 1


def test_without_a_loss_that_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finetune\.keep=last"):
        LowestLoss(tmp_path / "lowest.ckpt").weights()


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_stopped_and_gone_on(tmp_path: Path, stop: int, every: int) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, 6, Stop(stop), every=every)
    lowest = train(tmp_path, 6, every=every)
    assert lowest.weights()["weight"] == 4
    assert lowest.loss == 0.5
