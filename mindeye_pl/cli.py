"""The command line: compose, check, run, and report a user's mistake in one line."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mindeye_pl.config import CONFIG_NAME, check_command_line, check_config, command_line, conf_dir, register_resolvers
from mindeye_pl.distributed.launched import has_joined, launched_ranks
from mindeye_pl.errors import UserError

if TYPE_CHECKING:
    from mindeye_pl.reports.sweeps.jobs import Job

#: What the operating system says of a write that found no room; libraries below Python pass on only the words.
_NO_ROOM = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


@hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")
def run_job(config: DictConfig) -> None:
    """One job, the only one of a run or one of a sweep."""
    register_resolvers()  # a launcher's own process has not been through `main`
    logging.captureWarnings(True)  # into the log, so that stderr holds nothing but the line of a mistake
    with mistakes_in_one_line():  # here too, since Hydra adds words of its own to what a job raises
        is_job = HydraConfig.get().mode == RunMode.MULTIRUN and not config.plan
        # A cluster's launcher calls this function in every rank.
        _on_main_rank(lambda: _run_job_of_sweep(config) if is_job else _run(config))


def _run(config: DictConfig, job: "Job | None" = None) -> None:
    check_config(config)
    from mindeye_pl.runner.ranks import run_on_ranks

    run_on_ranks(config, job, line_of)


def _on_main_rank(run: Callable[[], None]) -> None:
    """Compose and run jobs; where torchrun or srun started several ranks, those other than 0 take the jobs from it."""
    if launched_ranks() is None or has_joined():
        run()
        return
    from mindeye_pl.distributed.ranks import agree, is_main_process, joined
    from mindeye_pl.runner.ranks import run_tasks_of_main_process

    with joined():
        if is_main_process():
            run()
            agree(None)  # no more jobs
        else:
            run_tasks_of_main_process()


def _run_job_of_sweep(config: DictConfig) -> None:
    """Run a job and record how it ends; after a failure the others run too, unless `sweep.stop_at_first_failure`."""
    from mindeye_pl.reports.sweeps.jobs import Job, failure_before, recorded, skip

    settings = HydraConfig.get()
    job, folder = Job(settings.job.num, command_line(settings)), Path(settings.runtime.output_dir)
    if config.sweep.stop_at_first_failure and (failed := failure_before(job, Path(settings.sweep.dir))) is not None:
        skip(job, folder, failed)
        return
    with recorded(job, folder, line_of):
        _run(config, job)


class SweepReport(Callback):
    """Hydra's hook before a multirun; Hydra swallows what its hooks raise, so this one only remembers."""

    sweep: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remembers the sweep's configuration, in which no job's overrides are."""
        type(self).sweep = config


def main() -> None:
    """Runs the command line; a user's mistake is one line on stderr and exit code 2."""
    register_resolvers()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here whole, not as Hydra's shortened trace
    # Threads that wait spin by default: with another busy process on the machine a step would take fifty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A rank that outlives rank 0 would warn of each lost connection, beside the line of the mistake.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    SweepReport.sweep = None
    with mistakes_in_one_line():
        _on_main_rank(_run_command_line)


def _run_command_line() -> None:
    check_command_line(sys.argv[1:])
    try:
        run_job()
    except Exception:
        _report_sweep()  # of the jobs that ended before a launcher gave up
        raise
    _report_sweep()


def _report_sweep() -> None:
    if (sweep := SweepReport.sweep) is not None and not sweep.plan:
        from mindeye_pl.reports.sweeps.report import write_sweep_report

        write_sweep_report(sweep)


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turn a mistake that the user can fix into one line on stderr and exit code 2; of several ranks, one reports."""
    try:
        yield
    except KeyboardInterrupt:
        if (launched_ranks() or (0, 1))[0] == 0:
            print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line, reports = line_of(error), _reports_failure(error)
        if line is None and reports:
            raise
        if reports:
            print(f"mindeye_pl: {line}", file=sys.stderr, flush=True)
        sys.exit(1 if line is None else 2)


def _reports_failure(error: Exception) -> bool:
    if launched_ranks() is None:
        return True
    from mindeye_pl.distributed.ranks import reports_failure

    return reports_failure(error)


def line_of(error: Exception) -> str | None:
    """A mistake that the user can mend in one line; None for what is none."""
    if not isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return str(no_room(error)) if found_no_room(error) else None
    cause = error.__cause__
    words = [str(error)]
    if isinstance(error, HydraException) and cause is not None and str(cause) not in str(error):
        words.append(str(cause))
    return " ".join(" ".join(words).split()) or type(error).__name__


def found_no_room(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a write to a full disk."""
    seen: set[int] = set()  # a cause may lead back to where it came from
    while error is not None and id(error) not in seen:
        if getattr(error, "errno", None) in _NO_ROOM or any(words in str(error) for words in _NO_ROOM.values()):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def no_room(error: Exception) -> UserError:
    """The user's view of it."""
    return UserError(
        f"no room to write {getattr(error, 'filename', None) or 'a file of this run'}",
        got=error,
        expected="free space",
        fix="make room, or paths.outputs=FOLDER on another disk; then the same command goes on where it was",
    )
