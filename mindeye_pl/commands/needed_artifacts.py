"""Artifacts that an experiment needs: inputs of its steps and of the rows beside it in its report."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from hydra import compose
from omegaconf import DictConfig

from mindeye_pl.config import CONFIG_NAME, compose_config, experiment_overrides, sweep_values
from mindeye_pl.engine.run import Run, order
from mindeye_pl.engine.step import Step
from mindeye_pl.errors import UserError

#: Overrides of `pipeline=artifacts` that are not the experiment's.
_OF_THE_STORE = ("pipeline=", "plan=", "artifacts.")


def needed_by(
    experiments: Sequence[str], overrides: Sequence[str], requested_steps: Callable[[DictConfig], list[Step]]
) -> set[str]:
    """Return the fingerprints of the artifacts that some experiments need, and the one that the command line names.

    Args:
        experiments: their names; of a sweep, all its jobs.
        overrides: the command line, whose other overrides (scale, data, seed, ...) hold for every experiment.
        requested_steps: the steps that `pipeline.steps` asks for.

    Raises:
        UserError: if no experiment is named, or the data that an experiment needs are missing.
    """
    own = [item for item in overrides if not item.startswith(_OF_THE_STORE)]
    named = any(item.lstrip("+").startswith("experiment=") for item in own)
    if not experiments and not named:
        raise UserError("artifacts.keep_used_by names no experiment", fix="artifacts.keep_used_by=[EXPERIMENT,...]")
    jobs = [*([own] if named else []), *(job for name in experiments for job in _jobs(name, overrides))]
    needed = set()
    for run in (Run(compose_config(job), job) for job in jobs):
        for each in (run, *map(run.of_experiment, run.config.report.compare)):
            needed |= {each.spec(step).fingerprint for step in order(each.config, requested_steps(each.config))}
    return needed


def _jobs(experiment: str, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield the overrides of an experiment; of a sweep, those of each job, as Hydra's basic sweeper would start it."""
    shared = experiment_overrides(experiment, [item for item in overrides if not item.startswith("artifacts.")])
    sweeper = compose(CONFIG_NAME, overrides=shared, return_hydra_config=True).hydra.sweeper
    values = sweep_values(sweeper.get("params"))
    for job in product(*values.values()):
        yield [*(f"{key}={value}" for key, value in zip(values, job, strict=True)), *shared]
