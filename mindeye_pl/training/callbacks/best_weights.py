"""The weights of the epoch with the lowest validation loss."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.errors import UserError

LOSS = "validation/loss"


class LowestLoss(Callback):
    """Keeps a copy of the weights beside the checkpoint, of the epoch whose validation loss is the lowest.

    A training that was killed goes on from the last checkpoint, which holds this callback's state; what the file holds
    of later epochs is then written again.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.loss = float("inf")
        self.epoch = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the weights where they are the best until now; all ranks take rank 0's word for it."""
        loss = float(trainer.strategy.broadcast(float(trainer.callback_metrics[LOSS])))
        if loss < self.loss:
            self.loss, self.epoch = loss, trainer.current_epoch
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"loss": self.loss, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint kept."""
        self.loss, self.epoch = state_dict["loss"], state_dict["epoch"]

    def weights(self) -> dict[str, Tensor]:
        """The kept weights.

        Raises:
            UserError: if no validation loss was a number.
        """
        if self.epoch < 0:
            raise UserError("no validation loss to go by", got=LOSS, expected="a number", fix="finetune.keep=last")
        console.print(f"  keeping the weights after epoch {self.epoch + 1}, whose validation loss is the lowest")
        return torch.load(self.path, map_location="cpu", weights_only=True)["state_dict"]
