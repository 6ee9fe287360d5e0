"""The budget of a training: epochs that are passes over the data, or a number of optimiser steps in equal parts."""

from dataclasses import dataclass
from typing import Any, Self

from mindeye_pl.errors import UserError


@dataclass(frozen=True)
class Budget:
    """Length of a training.

    With `max_steps` an epoch is one of `epochs` equal parts of the budget, whatever the amount of data: learning rate,
    mixing, temperatures, validations and checkpoints, which go by epochs, are then the same for every amount. The
    number of steps is that of one session of data or less, and grows with more sessions by `steps_exponent`.

    Attributes:
        epochs: number of epochs.
        max_steps: optimiser steps of the training; None if an epoch is a pass over the data.
    """

    epochs: int
    max_steps: int | None = None

    @classmethod
    def of(cls, node: Any, name: str, sessions: float = 1.0) -> Self:
        """Return the budget of the configuration node `name`, `finetune` for instance.

        `sessions` is the amount of data. Above one session its power `steps_exponent` multiplies the steps, to the
        nearest multiple of the epochs: an exponent of 0 gives every amount as many steps, 1 as many passes over the
        data. Less than a session gets the steps of one: fewer would leave a model untrained.

        Raises:
            UserError: if the steps are not a multiple of the epochs.
        """
        epochs, steps = node.epochs, node.max_steps
        if steps is not None and steps % epochs:
            nearest = max(round(steps / epochs), 1) * epochs
            raise UserError(
                f"{name}.max_steps is not a multiple of {name}.epochs",
                got=f"{steps} steps in {epochs} epochs",
                expected="epochs of equally many steps",
                fix=f"{name}.max_steps={nearest}, or another {name}.epochs",
            )
        if steps is not None:
            factor = max(sessions, 1.0) ** node.get("steps_exponent", 0.0)
            steps = max(round(factor * steps / epochs), 1) * epochs
        return cls(epochs, steps)

    def batches_per_epoch(self, accumulated: int | None) -> int | None:
        """Return the batches of an epoch, of which `accumulated` make one optimiser step; None for a pass."""
        return None if self.max_steps is None else self.max_steps // self.epochs * (accumulated or 1)
