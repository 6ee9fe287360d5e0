"""W&B runs, opened here and nowhere else; whatever becomes of W&B, the work that is tracked goes on.

Legend: H and W image size in pixels.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mindeye_pl.tracking.wandb_artifact import TrackedFolder, artifact_of

_log = logging.getLogger(__name__)

Call = TypeVar("Call", bound=Callable[..., None])

#: The x axis of every curve of a training.
STEP = "trainer/global_step"

#: Seconds that an online run waits for the server before it is kept offline, and for the last upload at its end.
_REACH_S, _UPLOAD_S = 60.0, 600.0
#: Seconds until what is logged is in the run's file. A kill takes W&B's own process along, and with it what is later.
_FLUSH_S = 0.2

#: The step whose run has the score that a W&B sweep looks at.
_SCORED = "evaluate"

#: What W&B's sweep agent tells its jobs, by the names of settings.
_AGENT_SETTINGS = ("sweep_id", "run_id", "sweep_param_path")
_agent: dict[str, str] = {}

#: Where we told W&B to keep copies, None before the first run.
_copies: str | None = None


@dataclass(frozen=True)
class RunIdentity:
    """What a dashboard knows a run by.

    Attributes:
        project: W&B project.
        entity: W&B team or user, None for the user's default.
        run_id: stable over restarts of the same work.
        name: shown to people.
        group: the experiment.
        job_type: the step.
        tags: subject, hours, seed, scale, simulated.
        config: the resolved configuration.
    """

    project: str
    entity: str | None
    run_id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


def _survives(call: Call) -> Call:
    """A method that W&B can make fail but that never fails: one warning, and the run is written no further."""

    @functools.wraps(call)
    def guarded(self: "TrackedRun", *args: Any, **kwargs: Any) -> None:
        if self._run is None:
            return
        try:
            call(self, *args, **kwargs)
        except Exception as error:
            self._run = None
            _log.warning("W&B failed, %s is tracked no further: %s", self.name, one_line(error))

    return guarded  # type: ignore[return-value]


class TrackedRun:
    """An open W&B run; see `start_run`.

    Args:
        run: the `wandb.Run`.
        name: for messages.
    """

    def __init__(self, run: Any, name: str):
        self._run: Any = run
        self.name = name
        self.run_id: str = run.id
        self.offline: bool = run.offline
        #: The folder of this process's record of the run.
        self.folder = Path(run.settings.sync_dir)
        #: Whether everything was uploaded, or waits in an offline folder as it should.
        self.finished = False

    @_survives
    def follow_steps(self) -> None:
        """Draws whatever is logged against `STEP`."""
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)

    @_survives
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Adds a row to the history.

        Args:
            values: by name; what stands before the slash is the section on the run's page.
            step: optimiser steps so far.
        """
        self._run.log({**values, STEP: step})

    @_survives
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Sets numbers of the run as a whole, which tables and bar charts compare runs by."""
        self._run.summary.update(dict(values))

    @_survives
    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table; a `(H, W, 3)` uint8 array in a cell becomes an image."""
        import wandb

        cells = [[wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
        self._run.log({name: wandb.Table(columns=list(columns), data=cells)})

    @_survives
    def log_images(self, name: str, images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
        """Logs `(H, W, 3)` uint8 images as one panel, each with its caption."""
        import wandb

        self._run.log({name: [wandb.Image(p, caption=c) for p, c in zip(images, captions, strict=True)]})

    @_survives
    def log_output(self, made: TrackedFolder, **how: Any) -> None:
        """Logs a folder as an artifact that this run made; `how` as of `artifact_of`."""
        self._run.log_artifact(artifact_of(made, **how), aliases=[made.alias])

    @_survives
    def log_input(self, used: TrackedFolder, **how: Any) -> None:
        """Logs a folder as an artifact that this run was made from; `how` as of `artifact_of`.

        `use_artifact` with the same arguments refuses an offline run, although the record that it would write is the
        one that makes `wandb sync` link the two; so the record is written as `use_artifact` writes it.
        """
        artifact = artifact_of(used, **how)
        if self.offline:
            self._run._log_artifact(artifact, aliases=[used.alias], is_user_created=True, use_after_commit=True)
        else:
            self._run.use_artifact(artifact, aliases=[used.alias])

    @_survives
    def finish(self, *, ok: bool) -> None:
        """Closes the run as finished or as failed; a failed one is continued by the next process that opens it."""
        self._run.finish(exit_code=0 if ok else 1)
        self.finished = True
        self._run = None


def start_run(folder: Path, identity: RunIdentity, *, mode: str) -> TrackedRun | None:
    """Opens a W&B run below `folder/wandb`; the same `run_id` continues the run of that id.

    Where the server cannot be reached the run is kept offline, so that nothing is lost; where that fails too there is
    a warning and no run.

    Args:
        folder: where the record lies.
        identity: of the run.
        mode: online or offline.
    """
    try:
        return TrackedRun(_start(folder, identity, mode), identity.name)
    except Exception as error:  # W&B raises many kinds, and the operating system some
        if mode != "offline":
            _log.warning("W&B cannot be reached, %s is kept offline: %s", identity.name, one_line(error))
        _forget_attempt()
    try:  # its own process may have been the trouble, and there is a new one now
        return TrackedRun(_start(folder, identity, "offline"), identity.name)
    except Exception as error:
        _log.warning("W&B failed to open a run, %s is not tracked: %s", identity.name, one_line(error))
        _forget_attempt()
    return None


def _start(folder: Path, identity: RunIdentity, mode: str) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")  # the hint that matters is printed by us
    _keep_copies_in(folder / "wandb" / "data")
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL)  # what matters is said by us, in one line
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "silent": True,
        "disable_git": True,
        "reinit": "create_new",  # a step may be made while another is
        "use_dot_wandb": False,
        "init_timeout": _REACH_S,
        "finish_timeout": _UPLOAD_S,
        "finish_timeout_raises": True,
        "x_transaction_log_flush_interval": _FLUSH_S,
    }
    known = wandb.Settings.model_fields
    agents = _agents_run(identity.job_type)
    wanted |= agents
    return wandb.init(
        dir=str(folder),
        project=identity.project,
        entity=identity.entity,
        mode=mode,  # type: ignore[arg-type]
        id=agents.get("run_id", identity.run_id),
        resume="allow" if mode == "online" else None,  # offline it is said to `wandb sync`, see `sync_command`
        name=identity.name,
        group=identity.group,
        job_type=identity.job_type,
        tags=list(identity.tags),
        config=dict(identity.config),
        save_code=False,
        settings=wandb.Settings(**{key: value for key, value in wanted.items() if key in known}),  # type: ignore[arg-type]
    )


def agent_waits_for(job_type: str) -> bool:
    """Whether this process is a job of W&B's sweep agent whose run is that of this step."""
    return bool(_agents_run(job_type))


def _agents_run(job_type: str) -> dict[str, str]:
    """Settings of the run that W&B's sweep agent waits for, if this process is one of its jobs: that with the score.

    They are taken out of the environment, from which W&B would give them to every run.
    """
    if "WANDB_SWEEP_ID" in os.environ:
        _agent.update({name: os.environ.pop(f"WANDB_{name.upper()}", "") for name in _AGENT_SETTINGS})
    return {name: value for name, value in _agent.items() if value} if job_type == _SCORED else {}


def _keep_copies_in(folder: Path) -> None:
    """Keeps W&B's copies of what waits for an upload beside its record, not in the home, unless the user says where."""
    global _copies
    if os.environ.get("WANDB_DATA_DIR") == _copies:
        _copies = os.environ["WANDB_DATA_DIR"] = str(folder.resolve())


def _forget_attempt() -> None:
    """Ends W&B's own process, which holds the id of a run that it could not open for taken."""
    with contextlib.suppress(Exception):
        import wandb

        wandb.teardown()


def one_line(error: Exception) -> str:
    """The error's words on one line, its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
