"""Progress of a training on the console, one line for every tenth of the epochs."""

from pytorch_lightning import Callback, LightningModule, Trainer

from mindeye_pl.console import console


class ProgressPrinter(Callback):
    """Prints the parts of the loss and the retrieval of held-out images.

    Args:
        title: of the training, "pretraining on subjects 2, 5, 7" for instance.
        lines: maximum number of lines.
    """

    def __init__(self, title: str, lines: int = 10):
        self.title, self.lines = title, lines

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the title, the number of epochs and steps, and the step from which a stopped training resumes."""
        epochs, steps, budget = trainer.max_epochs, trainer.num_training_batches, trainer.max_steps
        done, where = trainer.current_epoch, "for"
        if trainer.fit_loop.restarting:
            where = f"resuming in epoch {done + 1} after step {trainer.fit_loop.batch_idx + 1}, for"
        elif done:
            where = f"resuming after epoch {done}, for"
        total = f"{budget:,} steps, in " if budget > 0 else ""
        passes = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        console.print(f"{self.title}, {where} {total}{passes} of {steps} steps")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line where it is one of the tenths."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if trainer.is_global_zero and (epoch * self.lines // epochs > (epoch - 1) * self.lines // epochs):
            where = f"epoch {epoch} of {epochs}"
            if trainer.max_steps > 0:  # epochs are parts of a budget, not passes over the data
                where = f"step {trainer.global_step:,} of {trainer.max_steps:,}"
            console.print(self.line(where, {name: float(v) for name, v in trainer.callback_metrics.items()}))

    @staticmethod
    def line(where: str, metrics: dict[str, float]) -> str:
        """Return the line of one epoch from the logged metrics; `where` in the training it is."""
        parts = {
            name.removeprefix("train/").removesuffix("_epoch"): value
            for name, value in metrics.items()
            if name.startswith("train/") and name.endswith("_epoch")
        }
        loss = parts.pop("loss", float("nan"))
        line = f"  {where}: loss {loss:.2f}"
        if parts:
            line += " = " + " + ".join(f"{name} {value:.2f}" for name, value in parts.items())
        if (accuracy := metrics.get("validation/image_retrieval")) is not None:
            pool = metrics["validation/pool_size"]
            line += f"; held-out images: the right one of {pool:.0f} found {accuracy:.0%} of the time"
            line += f" (chance {1 / pool:.0%})"
        return line
