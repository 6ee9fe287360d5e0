"""Opened inputs of a step, for tests of one input alone."""

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, add_targets, trial_data
from mindeye_pl.steps.inputs.dataset import Images
from mindeye_pl.steps.inputs.splits import Split
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets


def trials(run: Run, subjects: list[int], num_sessions: int | str = "all", batch_size: int = 6) -> TrialDataModule:
    """Return the data of some subjects without targets."""
    settings = declare(run.resolved, (*TRAINING_TRIALS, *TRAINING_RUNTIME))
    chosen = {"subjects": subjects, "num_sessions": num_sessions, "batch_size": batch_size}
    return trial_data(run.open(Images()), settings, run.open(Split()), **chosen)


def training(run: Run, subjects: list[int], num_sessions: int | str = "all", batch_size: int = 6) -> TrialDataModule:
    """Return the data of some subjects with all that a training learns."""
    data = trials(run, subjects, num_sessions, batch_size)
    add_targets(data, targets(run))
    return data


def targets(run: Run) -> ImageTargets:
    """Return the targets of a run."""
    return run.open(Targets(low_level=True))
