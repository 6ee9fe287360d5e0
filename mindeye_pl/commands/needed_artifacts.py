"""Artifacts that an experiment needs: inputs of its steps and of the rows beside it in its report."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from hydra import compose
from omegaconf import DictConfig

from mindeye_pl.config import CONFIG_NAME, compose_config, experiment_overrides, sweep_values
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError

#: What the command line of `pipeline=artifacts` says of itself and not of the experiment.
_OF_THE_STORE = ("pipeline=", "plan=", "artifacts.")


def needed_by(
    run: Run, experiments: Sequence[str], requested_steps: Callable[[DictConfig], list[Step]]
) -> dict[str, tuple[str, str]]:
    """The artifacts that some experiments need, and the one that the run's command line names.

    Args:
        run: its other overrides (scale, data, seed, ...) hold for every experiment.
        experiments: their names; of a sweep, all its jobs.
        requested_steps: the steps that a run's `pipeline.steps` asks for.

    Returns:
        For each fingerprint the step and the experiment that needs it.

    Raises:
        UserError: if no experiment is named, or one cannot be told what it needs, since its data are not here.
    """
    if not experiments and run.experiment == "adhoc":
        raise UserError("artifacts.keep_used_by names no experiment", fix="artifacts.keep_used_by=[EXPERIMENT,...]")
    runs = [(name, one) for name in experiments for one in _jobs(run, name)]
    if run.experiment != "adhoc":
        overrides = [item for item in run.overrides if not item.startswith(_OF_THE_STORE)]
        runs.append((run.experiment, Run(compose_config(overrides), overrides)))
    needed: dict[str, tuple[str, str]] = {}
    for name, one in runs:
        for each in (one, *_compared(one)):
            for step in order(each.config, requested_steps(each.config)):
                needed.setdefault(each.spec(step).fingerprint, (step.name, name))
    return needed


def _jobs(run: Run, experiment: str) -> Iterator[Run]:
    """The run of an experiment; of a sweep, one for each job, as Hydra's basic sweeper would start it."""
    overrides = experiment_overrides(experiment, [item for item in run.overrides if not item.startswith("artifacts.")])
    sweeper = compose(CONFIG_NAME, overrides=overrides, return_hydra_config=True).hydra.sweeper
    values = sweep_values(sweeper.get("params"))
    for job in product(*values.values()):
        own = [f"{key}={value}" for key, value in zip(values, job, strict=True)]
        yield Run(compose_config([*own, *overrides]), [*own, *overrides])


def _compared(run: Run) -> list[Run]:
    """The experiments whose rows stand beside this one in its report."""
    return [run.of_experiment(name) for name in run.config.report.compare]
