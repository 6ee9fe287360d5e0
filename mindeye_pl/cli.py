"""The command line: compose, check, run, and report a user's mistake in one line."""

import errno
import logging
import os
import signal
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

from mindeye_pl.broken_config import mistake_in_config
from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import CONFIG_NAME, check_command_line, check_config, command_line, register_resolvers
from mindeye_pl.console import use_plain_characters
from mindeye_pl.distributed.launched import launched_ranks
from mindeye_pl.errors import UserError
from mindeye_pl.stopping import Stopped, exit_with_its_line, stop_on_sigterm

if TYPE_CHECKING:
    from mindeye_pl.reports.sweeps.jobs import Job

#: Error codes and messages of a write to a full disk; libraries below Python pass on only the message.
_DISK_FULL = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
#: Error codes of a path that may not be used as the run wants to: no permission, or something else is there.
_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP),
    errno.ENAMETOOLONG,
)


@hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")
def run_job(config: DictConfig) -> None:
    """Run one job, the only one of a run or one of a sweep."""
    register_resolvers()  # a launcher's own process does not call `main`
    logging.captureWarnings(True)  # into the log, so that stderr has only the line of a mistake
    with mistakes_in_one_line():  # here too, since Hydra adds to the message of an error in a job
        is_job = HydraConfig.get().mode == RunMode.MULTIRUN and not config.plan
        # A cluster's launcher calls this function in every rank.
        _on_main_rank(lambda: _run_job_of_sweep(config) if is_job else _run(config))


def _run(config: DictConfig, job: "Job | None" = None) -> None:
    check_config(config)
    from mindeye_pl.runner.ranks import run_on_ranks

    run_on_ranks(config, job, line_of)


def _on_main_rank(run: Callable[[], None]) -> None:
    """Compose and run jobs; where torchrun or srun started several ranks, those other than 0 take the jobs from it."""
    if launched_ranks() is None:
        run()
        return
    from mindeye_pl.distributed.ranks import agree, is_main_process, joined, world_size
    from mindeye_pl.runner.ranks import run_tasks_of_main_process

    if world_size() > 1:  # joined before
        run()
        return
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
    """Hydra's hook before a multirun. Hydra ignores the errors of hooks, so that it writes no report itself."""

    sweep: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the sweep's configuration, which has no job's overrides."""
        type(self).sweep = config


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    register_resolvers()
    use_plain_characters()
    stop_on_sigterm()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions arrive here, not as Hydra's shortened traceback
    # Waiting threads spin by default: with another busy process on the machine a step would take fifty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A rank that outlives rank 0 would warn of each lost connection, beside the line of the mistake.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    SweepReport.sweep = None
    with mistakes_in_one_line():
        try:
            _on_main_rank(_run_command_line)
        except Exception:
            _report_sweep()  # of the jobs that ended before a launcher gave up
            raise
        _report_sweep()


def _run_command_line() -> None:
    check_command_line(sys.argv[1:])
    run_job()


def _report_sweep() -> None:
    """Write the report of a sweep, after the other ranks have ended: they take part in jobs only."""
    if (sweep := SweepReport.sweep) is not None and not sweep.plan:
        from mindeye_pl.reports.sweeps.report import write_sweep_report

        write_sweep_report(sweep)


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turn a mistake that the user can fix into one line on stderr and exit code 2; of several ranks, one reports."""
    try:
        yield
    except KeyboardInterrupt:
        exit_with_its_line(Stopped(signal.SIGINT, "stopped; the same command resumes"), is_main=_is_main())
    except Stopped as stopped:
        exit_with_its_line(stopped, is_main=_is_main())
    except Exception as error:
        line = line_of(error)
        if not _reports_failure(error):
            sys.exit(1 if line is None else 2)
        if line is None:
            raise
        print(f"mindeye_pl: {line}", file=sys.stderr, flush=True)
        sys.exit(2)


def _is_main() -> bool:
    return (launched_ranks() or (0, 1))[0] == 0


def _reports_failure(error: Exception) -> bool:
    if launched_ranks() is None:
        return True
    from mindeye_pl.distributed.ranks import reports_failure

    return reports_failure(error)


def line_of(error: Exception) -> str | None:
    """Return the one line of a mistake that the user can fix, None for another error."""
    if not isinstance(error, UserError | HydraException | OmegaConfBaseException):
        found = _disk_full(error) or _unusable(error) or mistake_in_config(error)
        return None if found is None else str(found)
    message, cause = str(error), error.__cause__
    if isinstance(error, HydraException) and cause is not None and str(cause) not in message:
        message += f" {cause}"
    return " ".join(message.split()) or type(error).__name__


def _disk_full(error: Exception) -> UserError | None:
    """Return the user's view of a write to a full disk, if the error or one of its causes is one."""
    for cause in _causes(error):
        if getattr(cause, "errno", None) in _DISK_FULL or any(words in str(cause) for words in _DISK_FULL.values()):
            what = f"no room to write {getattr(error, 'filename', None) or 'a file of this run'}"
            fix = "make room, or paths.outputs=FOLDER on another disk; the same command resumes"
            return UserError(what, got=error, expected="free space", fix=fix)
    return None


def _unusable(error: Exception) -> UserError | None:
    """Return the user's view of a path that cannot be used, if the error or one of its causes is about one."""
    for cause in _causes(error):
        if not isinstance(cause, OSError) or cause.filename is None:
            continue
        # The kernel's own file systems have no room for a new folder, and say that there is no such file.
        of_kernel = cause.errno == errno.ENOENT and str(cause.filename).startswith(("/proc/", "/sys/", "/dev/"))
        if cause.errno in _UNUSABLE or of_kernel:
            got = (cause.strerror or str(cause)).lower()
            return UserError(f"{cause.filename} cannot be used", got=got, expected="a file or folder of your own")
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, each once: causes may be circular."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
