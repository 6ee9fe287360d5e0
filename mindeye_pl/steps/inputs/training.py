"""Settings of a step's training."""

from functools import partial
from pathlib import Path

from mindeye_pl.distributed.ranks import together
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.training.settings import TrainingSettings


def training_settings(run: Run, step: Step, folder: Path) -> TrainingSettings:
    """Return the run's training settings, under the step's name, for all ranks.

    Args:
        run: the run.
        step: the step being built.
        folder: its work folder.
    """
    name = f"{step.name}/{run.spec(step).name}"
    return TrainingSettings.of(run.config, name=name, together=partial(together, run, step, folder))
