"""Training told in plain words, a line for every tenth of the epochs."""

from pytorch_lightning import Callback, LightningModule, Trainer

from mindeye_pl.console import console


class PlainWords(Callback):
    """Says what the loss is made of and how well held-out images are found.

    Args:
        what: what is being trained, "pretraining on subjects 2, 5, 7" for instance.
        lines: how many lines at the most.
    """

    def __init__(self, what: str, lines: int = 10):
        self.what, self.lines = what, lines

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what starts, or from where it goes on."""
        done = trainer.current_epoch
        where = f"going on after epoch {done} of" if done else "for"
        console.print(f"{self.what}, {where} {trainer.max_epochs} epochs of {trainer.num_training_batches} steps")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how it goes."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if trainer.is_global_zero and (epoch * self.lines // epochs > (epoch - 1) * self.lines // epochs):
            console.print(self.line(epoch, epochs, {name: float(v) for name, v in trainer.callback_metrics.items()}))

    @staticmethod
    def line(epoch: int, epochs: int, metrics: dict[str, float]) -> str:
        """The line for one epoch from the logged metrics."""
        parts = {
            name.removeprefix("train/").removesuffix("_epoch"): value
            for name, value in metrics.items()
            if name.startswith("train/") and name.endswith("_epoch")
        }
        loss = parts.pop("loss", float("nan"))
        words = f"  epoch {epoch} of {epochs}: loss {loss:.2f}"
        if parts:
            words += " = " + " + ".join(f"{name} {value:.2f}" for name, value in parts.items())
        if (found := metrics.get("validation/image_retrieval")) is not None:
            pool = metrics["validation/pool_size"]
            words += f"; held-out images: the right one of {pool:.0f} found {found:.0%} of the time"
            words += f" (chance {1 / pool:.0%})"
        return words
