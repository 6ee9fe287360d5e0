"""The kept weights are those of the lowest validation loss, after a stop too."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from mindeye_pl.errors import UserError
from mindeye_pl.schema.nodes.run import ValidationScore
from mindeye_pl.training.callbacks.mid_epoch import MidEpochState
from mindeye_pl.training.callbacks.resume_checkpoint import ResumeCheckpoint
from mindeye_pl.training.fit import best_validation, weights_of_best

LOSSES = (3.0, 1.0, 2.0, 0.5, float("nan"), 0.7)
RATES = (0.1, 0.3, 0.3, float("nan"), 0.2, 0.3)


class CountsEpochs(LightningModule):
    """Its weight is the number of the epochs that are done; its validation loss is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Sequence[torch.Tensor], batch_index: int) -> torch.Tensor:
        return -self.weight  # a gradient of -1

    def validation_step(self, batch: Sequence[torch.Tensor], batch_index: int) -> None:
        self.log("validation/loss", torch.tensor(LOSSES[self.current_epoch]))
        self.log("validation/image_retrieval", torch.tensor(RATES[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Stop(Callback):
    """Dies where an epoch begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def train(
    folder: Path, epochs: int, *more: Callback, every: int = 1, score: ValidationScore = "loss"
) -> ModelCheckpoint:
    lowest, last = best_validation(folder, score), ResumeCheckpoint(every_n_epochs=every)
    last.path = folder / "last.ckpt"
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[MidEpochState(), *more, lowest, last],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader(TensorDataset(torch.zeros(1, 1)))
    resumed_from = str(last.path) if last.path.exists() else None
    trainer.fit(CountsEpochs(), batches, batches, ckpt_path=resumed_from, weights_only=True)
    return lowest


@pytest.mark.parametrize(("epochs", "kept"), [(1, 1), (3, 2), (4, 4), (6, 4)])
def test_weights_of_the_lowest_loss_are_kept(
    tmp_path: Path, epochs: int, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lowest = train(tmp_path, epochs)
    assert weights_of_best(lowest)["state_dict"]["weight"] == kept
    assert f"after epoch {kept}, whose validation loss is the lowest" in capsys.readouterr().out


def test_the_first_of_the_highest_rates_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = train(tmp_path, 6, score="image_retrieval")
    assert weights_of_best(best)["epoch"] == 1
    assert "after epoch 2, whose validation image retrieval is the highest" in capsys.readouterr().out


def test_a_first_loss_of_nan_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.LOSSES", (float("nan"), 2.0, float("nan"), 1.0))
    assert weights_of_best(train(tmp_path, 3))["state_dict"]["weight"] == 2


def test_all_losses_nan_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.LOSSES", (float("nan"),) * 2)
    lowest = train(tmp_path, 2)
    with pytest.raises(UserError, match=r"finetune\.keep=last"):
        weights_of_best(lowest)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_stopped_and_resumed(tmp_path: Path, stop: int, every: int) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, 6, Stop(stop), every=every)
    lowest = train(tmp_path, 6, every=every)
    assert weights_of_best(lowest)["state_dict"]["weight"] == 4
    assert lowest.best_model_score == 0.5


def test_resumed_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "before", 6, Stop(5))
    (tmp_path / "before").rename(tmp_path / "after")
    lowest = train(tmp_path / "after", 6)
    assert weights_of_best(lowest)["state_dict"]["weight"] == 4
