"""W&B's record of a run: every step that is built is one W&B run, with its inputs and its results.

A cache hit opens no run, except that of the step whose score W&B's sweep agent waits for. Rank 0 logs.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from mindeye_pl.console import console
from mindeye_pl.data.layout.splits import STANDARD
from mindeye_pl.engine.records import StepLog
from mindeye_pl.engine.run import Observer
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import EMBEDDINGS, Made, Step
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec
from mindeye_pl.tracking.sync import sync_command
from mindeye_pl.tracking.wandb_artifact import NONE, TrackedFolder
from mindeye_pl.tracking.wandb_run import RunIdentity, TrackedRun, agent_waits_for, one_line, start_run

_log = logging.getLogger(__name__)

#: W&B's limit.
MAX_TAG_LENGTH = 64


class WandbLog(StepLog):
    """Rows and images of a step's W&B run."""

    enabled = True

    def __init__(self, tracked: TrackedRun):
        self._tracked = tracked

    def log(self, values: Mapping[str, float], global_step: int) -> None:
        """Add a row, drawn against the optimiser step."""
        self._tracked.log(values, global_step)

    def log_image(self, image: np.ndarray, epochs: int) -> None:
        """Add an image made after so many epochs."""
        self._tracked.log_images("generated", [image], [f"after {epochs} epochs"])


class WandbObserver(Observer):
    """The W&B runs of the steps that a process builds, by the node `logger.wandb`, in the experiment's group."""

    def __init__(self, settings: DictConfig, experiment: str):
        self._settings, self._experiment = settings, experiment
        self._open: dict[str, TrackedRun] = {}
        self._embeddings: dict[str, dict[str, tuple[TrackedFolder, bool]]] = {}
        self._offline_folders: set[Path] = set()
        self._offline_ids: set[str] = set()
        self._shown: set[str] = set()
        self._mode = settings.mode

    @property
    def enabled(self) -> bool:
        """Return whether this process opens W&B runs."""
        return self._mode != "disabled" and getattr(rank_zero_only, "rank", 0) == 0

    @contextmanager
    def making(self, run: Run, step: Step) -> Iterator[Callable[[], StepLog]]:
        """Open the step's W&B run where there is something to build; it ends with the artifact, or as failed."""
        try:
            yield lambda: self._start(run, step)
        except BaseException:
            self._finish(run, step, ok=False)
            raise
        self._finish(run, step, ok=True)

    def found(self, run: Run, step: Step) -> None:
        """Log a finished step, if this process is a job of W&B's sweep agent and the step has its score."""
        if self.enabled and step.name not in self._shown and agent_waits_for(step.name):
            self._shown.add(step.name)
            self._start(run, step)
            self._finish(run, step, ok=True)

    def uses_embeddings(self, folder: Path, described: Mapping[str, Any], fingerprint: str, *, filled: bool) -> None:
        """Note a folder of embeddings as filled by, or read by, the steps that are being built."""
        metadata = {"determined_by": dict(described)}
        store = TrackedFolder(f"targets-{folder.name}", EMBEDDINGS, fingerprint, folder, metadata, grows=True)
        for name in self._open:
            stores = self._embeddings.setdefault(name, {})
            stores[fingerprint] = store, filled or stores.get(fingerprint, (store, False))[1]

    def print_sync_command(self, fingerprints: Iterable[str]) -> None:
        """Print the command that uploads the offline runs of these artifacts, if this process wrote any."""
        ids = [*self._offline_ids, *map(_run_id, fingerprints)]
        if self._offline_ids and (command := sync_command(self._offline_folders, ids)):
            console.print(f"W&B is offline; to upload: {command}", markup=False)

    def _start(self, run: Run, step: Step) -> StepLog:
        if not self.enabled or step.name in self._open:
            return StepLog()
        with _surviving(step):
            identity = self._identity(run.spec(step), tags(run.config, step), run.resolved)
            tracked = start_run(Path(self._settings.folder), identity, mode=self._mode)
            if tracked is None:
                self._mode = "disabled"  # once is enough
                return StepLog()
            self._open[step.name] = tracked
            if tracked.offline:
                self._mode = "offline"  # the next step does not wait for the server again
                self._offline_folders.add(tracked.folder.parent)
                self._offline_ids.add(tracked.run_id)
            for used in _inputs(run, step):
                self._log_folder(tracked.log_input, used)
        return WandbLog(self._open[step.name]) if step.name in self._open else StepLog()

    def _finish(self, run: Run, step: Step, *, ok: bool) -> None:
        tracked = self._open.pop(step.name, None)
        if tracked is None:
            return
        artifact = None
        with _surviving(step):
            if ok and (artifact := run.find(step)) is not None:
                _summarise_cost(artifact, tracked)
                step.record(run.inputs(step), artifact, tracked, self._settings.num_images)
                for store, filled in self._embeddings.pop(step.name, {}).values():
                    self._log_folder(tracked.log_output if filled else tracked.log_input, store)
                self._log_folder(tracked.log_output, _tracked_folder(step, artifact))
        tracked.finish(ok=artifact is not None)
        if not tracked.finished and not tracked.offline:
            _log.warning("not uploaded to W&B: wandb sync --include-online %s", tracked.folder)

    def _identity(self, spec: ArtifactSpec, labels: list[str], config: Mapping[str, Any]) -> RunIdentity:
        artifact = {"step": spec.step, "label": spec.label, "fingerprint": spec.fingerprint, "inputs": spec.inputs}
        return RunIdentity(
            project=self._settings.project,
            entity=self._settings.entity,
            id=_run_id(spec.fingerprint),
            name=f"{spec.step} {spec.label}",
            group=self._experiment.replace("/", "-"),
            job_type=spec.step,
            tags=labels,
            config={**config, "artifact": artifact},
        )

    def _log_folder(self, log: Callable[..., None], folder: TrackedFolder) -> None:
        settings = self._settings
        if settings.upload != NONE:
            log(folder, upload=settings.upload, below_mb=settings.upload_below_mb, checksums=settings.checksums)


def _inputs(run: Run, step: Step) -> Iterator[TrackedFolder]:
    """Yield what a step is made from: artifacts of other steps, and what the user brings."""
    used, known = run.spec(step).inputs, set()
    for name, (origin, one) in run.leaves(step).items():
        if (fingerprint := used.get(name)) in known or fingerprint is None:
            continue
        known.add(fingerprint)
        if isinstance(one, Made):
            if (artifact := origin.find(one.step)) is not None:
                yield _tracked_folder(one.step, artifact)
        elif len(fingerprint) > 12:
            own = name.rpartition(".")[2]  # the same in every step that reads it
            yield TrackedFolder(f"{own}-{fingerprint[:12]}", one.artifact_type, fingerprint)


def _summarise_cost(artifact: Artifact, tracked: TrackedRun) -> None:
    manifest = artifact.manifest
    size = sum(path.stat().st_size for path in artifact.folder.rglob("*") if path.is_file())
    tracked.summarise({"cost/seconds": manifest["seconds"], "cost/megabytes": round(size / 1e6, 3)})
    tracked.summarise({f"facts/{name}": value for name, value in manifest.get("facts", {}).items()})


@contextmanager
def _surviving(step: Step) -> Iterator[None]:
    """Warn of any failure of the record; the step itself goes on."""
    try:
        yield
    except Exception as error:
        _log.warning("the W&B record of %s is incomplete: %s", step.name, one_line(error))


def _run_id(fingerprint: str) -> str:
    """Return the same id for the same work: a step that was stopped resumes in its W&B run."""
    return fingerprint[:16]


def _tracked_folder(step: Step, artifact: Artifact) -> TrackedFolder:
    """Return a finished artifact under its folder's name; W&B's manifest holds ours, which differs between builds."""
    metadata = {key: value for key, value in artifact.manifest.items() if key not in ("fingerprint", "files")}
    name = f"{step.name}-{artifact.folder.name}"
    return TrackedFolder(name, step.artifact_type, artifact.fingerprint, artifact.folder, metadata)


def tags(config: DictConfig, step: Step) -> list[str]:
    """Return what a dashboard filters by: the step's own tags, ablation, seed, scale, split, simulated."""
    found = step.tags(config)
    if (ablation := config.ablation.name) != "none":
        found += [f"ablation={ablation}"]
    found += [f"seed={config.seed}", f"scale={config.scale.name}"]
    found += [] if config.data.split == STANDARD else [f"split={config.data.split}"]
    found += ["simulated"] if step.is_simulated(config) else []
    return [tag[:MAX_TAG_LENGTH] for tag in found]
