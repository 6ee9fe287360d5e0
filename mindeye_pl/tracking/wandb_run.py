"""W&B runs. Failures of W&B never interrupt the tracked work.

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

from mindeye_pl.tracking.wandb_artifact import TrackedFolder, build_artifact

_log = logging.getLogger(__name__)

Call = TypeVar("Call", bound=Callable[..., None])

#: X axis of all training curves.
STEP = "trainer/global_step"

#: Timeout for opening an online run, after which it is kept offline.
_INIT_TIMEOUT_S = 60.0

#: Step whose run has the score that a W&B sweep optimises.
_SCORED_STEP = "evaluate"

#: Settings that W&B's sweep agent passes to its jobs.
_AGENT_SETTINGS = ("sweep_id", "run_id", "sweep_param_path")
_agent: dict[str, str] = {}

#: W&B's folder as this package set it last; a folder of the user's stays.
_data_dir: str | None = None


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run, by the names of `wandb.init`.

    Attributes:
        entity: W&B team or user, None for the user's default.
        id: stable over restarts of the same work.
        group: the experiment.
        job_type: the step.
    """

    project: str
    entity: str | None
    id: str
    name: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


def _never_raises(call: Call) -> Call:
    """Decorate a method that may fail in W&B: a failure logs one warning and ends the tracking."""

    @functools.wraps(call)
    def guarded(self: "TrackedRun", *args: Any, **kwargs: Any) -> None:
        if self._run is None:
            return
        try:
            call(self, *args, **kwargs)
        except Exception as error:
            self._run = None
            _log.warning("W&B failed, %s is no longer tracked: %s", self.name, one_line(error))

    return guarded  # type: ignore[return-value]


class TrackedRun:
    """An open `wandb.Run`, created by `start_run`; the name is for log messages."""

    def __init__(self, opened: Any, name: str):
        self._run: Any = opened
        self.name = name
        self.run_id: str = opened.id
        self.offline: bool = opened.offline
        self._has_axis = False
        #: Folder of this process's record of the run.
        self.folder = Path(opened.settings.sync_dir)
        #: Everything was uploaded, or is stored in the offline folder as intended.
        self.finished = False

    @_never_raises
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a row after so many optimiser steps, the x axis of all metrics.

        The part of a name before the slash is its section on the run's page.
        """
        if not self._has_axis:
            self._run.define_metric(STEP, hidden=True)
            self._run.define_metric("*", step_metric=STEP, step_sync=True)
            self._has_axis = True
        self._run.log({**values, STEP: step})

    @_never_raises
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the whole run, which tables and bar charts compare."""
        self._run.summary.update(dict(values))

    @_never_raises
    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table; `(H, W, 3)` uint8 arrays in cells become images."""
        import wandb

        cells = [[wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
        self._run.log({name: wandb.Table(columns=list(columns), data=cells)})

    @_never_raises
    def log_images(self, name: str, images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
        """Log `(H, W, 3)` uint8 images as one panel, each with its caption."""
        import wandb

        self._run.log({name: [wandb.Image(p, caption=c) for p, c in zip(images, captions, strict=True)]})

    @_never_raises
    def log_output(self, output: TrackedFolder, **options: Any) -> None:
        """Log a folder as an artifact created by this run; `options` as in `build_artifact`."""
        self._run.log_artifact(build_artifact(output, **options), aliases=[output.alias])

    @_never_raises
    def log_input(self, used: TrackedFolder, **options: Any) -> None:
        """Log a folder as an artifact used by this run; `options` as in `build_artifact`.

        `use_artifact` refuses offline runs, although the record that it writes is what makes `wandb sync` link the two;
        so for an offline run the record is written directly.
        """
        artifact = build_artifact(used, **options)
        if self.offline:
            self._run._log_artifact(artifact, aliases=[used.alias], is_user_created=True, use_after_commit=True)
        else:
            self._run.use_artifact(artifact, aliases=[used.alias])

    @_never_raises
    def finish(self, *, ok: bool) -> None:
        """Close the run as finished or failed; the next process that opens a failed run continues it."""
        self._run.finish(exit_code=0 if ok else 1)
        self.finished = True
        self._run = None


def start_run(folder: Path, identity: RunIdentity, *, mode: str) -> TrackedRun | None:
    """Open a W&B run below `folder/wandb`; an existing id is continued.

    If the server is unreachable, the run is kept offline; if that fails too, a warning is logged and None returned.
    """
    for is_last in (False, True):
        try:
            return TrackedRun(_start(folder, identity, "offline" if is_last else mode), identity.name)
        except Exception as error:  # W&B and the operating system raise many kinds
            if is_last:
                _log.warning("W&B failed to open a run, %s is not tracked: %s", identity.name, one_line(error))
            elif mode != "offline":
                _log.warning("W&B is unreachable, %s is kept offline: %s", identity.name, one_line(error))
            with contextlib.suppress(Exception):  # a new W&B process, which does not keep the run's id reserved
                import wandb

                wandb.teardown()
    return None


def _start(folder: Path, identity: RunIdentity, mode: str) -> Any:
    global _data_dir
    os.environ.setdefault("WANDB_SILENT", "true")  # this package prints the upload command itself
    if os.environ.get("WANDB_DATA_DIR") == _data_dir:  # copies of pending uploads lie beside the record, not at home
        _data_dir = os.environ["WANDB_DATA_DIR"] = str((folder / "wandb" / "data").resolve())
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL)  # this package logs one line per failure
    folder.mkdir(parents=True, exist_ok=True)
    of_agent = _agent_settings(identity.job_type)
    settings = {
        "silent": True,
        "disable_git": True,
        "reinit": "create_new",  # several steps may be open at once
        "use_dot_wandb": False,
        "init_timeout": _INIT_TIMEOUT_S,
        "finish_timeout": 600.0,  # of the last upload
        "finish_timeout_raises": True,
        "x_transaction_log_flush_interval": 0.2,  # a kill loses at most this much, since it also ends W&B's process
    } | of_agent
    known = {key: value for key, value in settings.items() if key in wandb.Settings.model_fields}
    return wandb.init(
        dir=str(folder),
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,  # offline runs are resumed by `wandb sync`, see `sync_command`
        save_code=False,
        settings=wandb.Settings(**known),  # type: ignore[arg-type]
        **(vars(identity) | {"id": of_agent.get("run_id", identity.id)}),
    )


def agent_waits_for(job_type: str) -> bool:
    """Return whether this process is a job of W&B's sweep agent, and this step has the optimised score."""
    return bool(_agent_settings(job_type))


def _agent_settings(job_type: str) -> dict[str, str]:
    """Return the sweep agent's settings for the step with the optimised score, else an empty dict.

    They are removed from the environment, from which W&B would apply them to every run.
    """
    if "WANDB_SWEEP_ID" in os.environ:
        _agent.update({name: os.environ.pop(f"WANDB_{name.upper()}", "") for name in _AGENT_SETTINGS})
    return {name: value for name, value in _agent.items() if value} if job_type == _SCORED_STEP else {}


def one_line(error: Exception) -> str:
    """Return the error message on one line, or the error's class name."""
    return " ".join(str(error).split()) or type(error).__name__
