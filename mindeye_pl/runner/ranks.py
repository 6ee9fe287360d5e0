"""A job on as many ranks as its configuration asks for, however they are started.

One process composes the configuration; with it, all ranks execute the same steps (`run_experiment`). Where torchrun or
srun started the ranks, that process is rank 0, and the others take each job from it. Otherwise it launches the ranks.
"""

import logging
import logging.config
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import command_line
from mindeye_pl.distributed.launched import launched_ranks
from mindeye_pl.distributed.launcher import launch
from mindeye_pl.distributed.ranks import agree, check_in_step, is_main_process, joined, let_peers_fail_first, world_size
from mindeye_pl.distributed.strategies import check_strategy, num_ranks
from mindeye_pl.errors import UserError
from mindeye_pl.reports.sweeps.jobs import Job
from mindeye_pl.runner.experiment import run_experiment, runs_steps


@dataclass(frozen=True)
class Task:
    """One job as it is sent to the ranks, with the arguments of `run_on_ranks`."""

    config: DictConfig  # resolved
    overrides: list[str]  # that composed it
    job: Job | None
    logging: dict[str, Any]  # of the composing process, for `logging.config.dictConfig`
    as_user_error: Callable[[Exception], str | None]


def run_on_ranks(config: DictConfig, job: Job | None, as_user_error: Callable[[Exception], str | None]) -> None:
    """Run a job in this process, on ranks launched here, or together with the ranks that torchrun or srun started.

    Args:
        config: composed in this process by Hydra.
        job: its record in a sweep, which receives the artifacts; None for a single run.
        as_user_error: importable; returns the line of a user's mistake, None for another error.

    Raises:
        UserError: for a user's mistake in any rank.
        RuntimeError: for another error in a rank launched here.
    """
    hydra = HydraConfig.get()
    overrides = command_line(hydra)
    launched, needs_ranks = launched_ranks(), runs_steps(config) and num_ranks(config) > 1
    if launched is None and not needs_ranks:
        run_experiment(config, overrides, job)
        return
    resolved: Any = OmegaConf.create(OmegaConf.to_container(config, resolve=True), flags={"struct": True})
    logging_config: Any = OmegaConf.to_container(hydra.job_logging, resolve=True)
    task = Task(resolved, overrides, job, logging_config, as_user_error)
    if launched is None:
        check_strategy(config, None)
        finished = launch(_run_launched, task, num_processes=num_ranks(config))
        if job is not None:
            job.artifacts, job.made = finished.artifacts, finished.made
        return
    agree(task)
    try:
        _run_together(task)
    except Exception:
        if job is not None:
            with suppress(UserError):  # the next job raises it: this one's error is to be recorded
                check_in_step()
        raise


def run_tasks_of_main_process() -> None:
    """Run every job that the main process composes, until it has no more. Ranks other than 0 call this."""
    while (task := agree()) is not None:
        try:
            _run_together(task)
        except Exception:
            if task.job is None:
                raise
            check_in_step()


def _run_together(task: Task) -> None:
    if runs_steps(task.config):
        check_strategy(task.config, world_size())
    run_experiment(task.config, task.overrides, task.job)


def _run_launched(task: Task) -> Job | None:
    """Run a job on a rank launched here, whose launcher reports the error; rank 0 continues the log."""
    with joined():
        if is_main_process():
            logging.config.dictConfig(task.logging)
            logging.captureWarnings(True)
        try:
            run_experiment(task.config, task.overrides, task.job)
        except Exception as error:
            let_peers_fail_first(error)
            if (line := task.as_user_error(error)) is not None:
                raise UserError(line) from None
            raise
    return task.job
