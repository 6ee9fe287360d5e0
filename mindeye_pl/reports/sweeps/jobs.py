"""The jobs of a sweep: each writes its overrides and its end into one small file in its own folder.

So the sweep's report needs neither the process nor the machine of a job, and finds a job that was killed.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mindeye_pl.console import console
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.own_files import read_json

JOB = "job.json"

Status = Literal["running", "finished", "failed", "skipped"]


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        number: Hydra's, from 0 on.
        overrides: its command line.
        status: a job that is still "running" when the sweep has ended was killed; "skipped" is one that did not start
            because another had failed.
        error: in one line.
        artifacts: the folder of each step's artifact.
        made: the steps that this job made; the others were cache hits.
        seconds: from its start to its end.
        ablation: node of its configuration, `name`, and `against` and `control` where it has them.
    """

    number: int
    overrides: list[str]
    status: Status = "running"
    error: str | None = None
    artifacts: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ablation: dict[str, str | None] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """Return the overrides by key, as they were written, without the plus signs before the keys."""
        pairs = (item.split("=", 1) for item in self.overrides if "=" in item)
        return {key.lstrip("+"): value for key, value in pairs}


@contextmanager
def recorded(job: Job, folder: Path, in_one_line: Callable[[Exception], str | None]) -> Iterator[Job]:
    """Record in the job's folder how it ends. A job that fails ends here, so that those after it still run.

    `in_one_line` returns the line of a user's mistake, None for other errors, whose traceback is logged.
    """
    started = time.time()
    _write(job, folder)
    try:
        yield job
    except Exception as error:
        line = in_one_line(error)
        if line is None:
            logging.getLogger(__name__).exception("job %d failed", job.number)
            line = " ".join(f"{type(error).__name__}: {error}".split())
        job.status, job.error = "failed", line
        console.print(f"job {job.number} failed: {line}", markup=False)
    else:
        job.status = "finished"
    job.seconds = round(time.time() - started, 1)
    _write(job, folder)


def failure_before(job: Job, folder: Path) -> Job | None:
    """Return the sweep's first failed job that started before `job`; later records may be of an earlier sweep."""
    return next((one for one in read_jobs(folder) if one.status == "failed" and one.number < job.number), None)


def skip(job: Job, folder: Path, failed: Job) -> None:
    """Record in its folder that a job did not start because another one had failed."""
    job.status, job.error = "skipped", f"job {failed.number} failed"
    console.print(f"job {job.number} skipped: {job.error}", markup=False)
    _write(job, folder)


def _write(job: Job, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JOB, asdict(job))


def read_jobs(folder: Path) -> list[Job]:
    """Return the jobs of the sweep in `folder`, by number."""
    jobs = [read_json(path, Job, fix=f"rm {path}, and the same command again") for path in folder.glob(f"*/{JOB}")]
    return sorted(jobs, key=lambda job: job.number)
