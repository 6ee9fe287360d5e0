"""Every step that is really made is one W&B run, with what it was made from and what came of it.

What is finished is not made, so it opens no run, but for the one that W&B's sweep agent waits for. Of several processes
that make a step together, the first tracks it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from mindeye_pl.store.artifacts import Artifact
from mindeye_pl.console import console
from mindeye_pl.data.nsd.constants import HOURS_PER_SESSION
from mindeye_pl.tracking.sync import sync_command
from mindeye_pl.tracking.wandb_artifact import NONE, TrackedFolder
from mindeye_pl.tracking.wandb_run import RunIdentity, TrackedRun, agent_waits_for, one_line, start_run

if TYPE_CHECKING:
    from mindeye_pl.engine.step import Run, Step

_log = logging.getLogger(__name__)

DATA, TARGETS, CHECKPOINT, RECONSTRUCTIONS, SCORES = "data", "targets", "checkpoint", "reconstructions", "scores"

#: Types of W&B artifacts by step; the other steps train something.
_TYPES = {
    "simulate": DATA,
    "convert_mindeye1": DATA,
    "scenes": DATA,
    "screen_captions": DATA,
    "reconstruct": RECONSTRUCTIONS,
    "evaluate": SCORES,
    "evaluate_reconstructions": SCORES,
    "evaluate_foundation": SCORES,
    "retrieve": SCORES,
    "embed_gallery": TARGETS,
    "build_index": DATA,
}
#: Types by the name of what is no step of the project's: the user's data, or a checkpoint of somebody's.
_FOREIGN = dict.fromkeys(("checkpoint", "sdxl_base", "embedder"), CHECKPOINT) | {"reconstructions": RECONSTRUCTIONS}

#: Steps that read the brain of `data.subject`, and those that also depend on how its model began.
_OF_SUBJECT = ("finetune", "evaluate", "reconstruct", "evaluate_reconstructions", "fit_encoder", "retrieve")
_OF_MODEL = ("finetune", "evaluate", "reconstruct", "evaluate_reconstructions", "retrieve")
#: W&B's limit.
_LONGEST_TAG = 64


class Tracking:
    """The W&B runs of the steps that a run makes.

    Args:
        run: whose steps they are.
    """

    def __init__(self, run: "Run"):
        self._run, self._settings = run, run.config.logger
        self._open: dict[str, TrackedRun] = {}
        self._stores: dict[str, dict[str, tuple[TrackedFolder, bool]]] = {}
        self._folders: dict[Path, None] = {}
        self._ids: dict[str, None] = {}
        self._shown: set[str] = set()
        self._mode = self._settings.mode if self._settings.name == "wandb" else "disabled"

    @property
    def enabled(self) -> bool:
        """Whether this process opens W&B runs."""
        return self._mode != "disabled" and getattr(rank_zero_only, "rank", 0) == 0

    @contextmanager
    def of(self, step: "Step") -> Iterator[Callable[[], None]]:
        """Around the making of a step; what it yields is called when there is something to make.

        The W&B run ends when the artifact is whole, or as failed when it is not.
        """
        try:
            yield lambda: self._start(step)
        except BaseException:
            self._finish(step, ok=False)
            raise
        self._finish(step, ok=True)

    def show_finished(self, step: "Step") -> None:
        """Logs a step that was found finished, if this process is a job of W&B's sweep agent and it has the score."""
        if self.enabled and step.name not in self._shown and agent_waits_for(step.name):
            self._shown.add(step.name)
            self._start(step)
            self._finish(step, ok=True)

    def log_of(self, step: "Step") -> Callable[..., None] | None:
        """What takes the rows of a training, `(values, step)`; None where the step is not tracked."""
        tracked = self._open.get(step.name)
        if tracked is None:
            return None
        tracked.follow_steps()
        return tracked.log

    def image_log_of(self, step: "Step") -> Callable[[np.ndarray, int], None] | None:
        """What takes `(H, W, 3)` uint8 images of a training, with the epochs so far; None where it is not tracked."""
        tracked = self._open.get(step.name)
        if tracked is None:
            return None
        return lambda image, epochs: tracked.log_images("generated", [image], [f"after {epochs} epochs"])

    def uses_store(self, folder: Path, by: dict[str, Any], fingerprint: str, *, filled: bool) -> None:
        """Notes a store of target tokens, latents or maps as made by, or read by, the steps that are being made.

        Args:
            folder: of the store.
            by: what determines its rows.
            fingerprint: of that.
            filled: whether rows of it were made now.
        """
        store = TrackedFolder(f"targets-{folder.name}", TARGETS, fingerprint, folder, {"determined_by": by}, grows=True)
        for name in self._open:
            stores = self._stores.setdefault(name, {})
            stores[fingerprint] = store, filled or stores.get(fingerprint, (store, False))[1]

    def say_how_to_sync(self, steps: Sequence["Step"]) -> None:
        """Prints the one line that uploads the offline runs of these steps, if this process made any.

        Args:
            steps: of the experiment; those of earlier processes are uploaded by the same line.
        """
        if not self._ids:
            return
        ids = [*self._ids, *(_run_id(self._run, step) for step in steps)]
        if command := sync_command(self._folders, ids):
            console.print(f"W&B is offline; to upload: {command}", markup=False)

    def _start(self, step: "Step") -> None:
        if not self.enabled or step.name in self._open:
            return
        with _surviving(step):
            tracked = start_run(Path(self._settings.folder), self._identity(step), mode=self._mode)
            if tracked is None:
                self._mode = "disabled"  # once is enough
                return
            self._open[step.name] = tracked
            if tracked.offline:
                self._mode = "offline"  # the next step does not wait for the server again
                self._folders[tracked.folder.parent] = None
                self._ids[tracked.run_id] = None
            for used in self._inputs(step):
                self._log_folder(tracked, used, output=False)

    def _finish(self, step: "Step", *, ok: bool) -> None:
        tracked = self._open.pop(step.name, None)
        if tracked is None:
            return
        artifact = None
        with _surviving(step):
            if ok and (artifact := self._run.find(step)) is not None:
                from mindeye_pl.reports.wandb.results import log_results  # which knows the steps, and they this

                log_results(self._run, step, artifact, tracked)
                for store, filled in self._stores.pop(step.name, {}).values():
                    self._log_folder(tracked, store, output=filled)
                self._log_folder(tracked, _tracked_folder(step, artifact), output=True)
        tracked.finish(ok=artifact is not None)
        if not tracked.finished and not tracked.offline:
            _log.warning("what W&B did not get: wandb sync --include-online %s", tracked.folder)

    def _identity(self, step: "Step") -> RunIdentity:
        run, spec = self._run, self._run.spec(step)
        config: Any = OmegaConf.to_container(run.config, resolve=True)
        artifact = {"step": step.name, "label": spec.label, "fingerprint": spec.fingerprint, "inputs": spec.inputs}
        return RunIdentity(
            project=self._settings.project,
            entity=self._settings.entity,
            run_id=_run_id(run, step),
            name=f"{step.name} {spec.label}",
            group=run.experiment.replace("/", "-"),
            job_type=step.name,
            tags=tags(run, step),
            config=config | {"artifact": artifact},
        )

    def _inputs(self, step: "Step") -> Iterator[TrackedFolder]:
        """What a step is made from: artifacts of other steps, and what the user brings."""
        known = set()
        for need in step.needs(self._run):
            if (artifact := self._run.find(need)) is not None:
                known.add(artifact.fingerprint)
                yield _tracked_folder(need, artifact)
        for name, fingerprint in self._run.spec(step).inputs.items():
            if fingerprint not in known:
                yield TrackedFolder(f"{name}-{fingerprint[:12]}", _FOREIGN.get(name, DATA), fingerprint)

    def _log_folder(self, tracked: TrackedRun, folder: TrackedFolder, *, output: bool) -> None:
        settings = self._settings
        if settings.upload == NONE:
            return
        log = tracked.log_output if output else tracked.log_input
        log(folder, upload=settings.upload, below_mb=settings.upload_below_mb, checksums=settings.checksums)


@contextmanager
def _surviving(step: "Step") -> Iterator[None]:
    """Whatever is wrong with the record of a step, the step itself goes on."""
    try:
        yield
    except Exception as error:
        _log.warning("the W&B record of %s is not whole: %s", step.name, one_line(error))


def _run_id(run: "Run", step: "Step") -> str:
    """The same for the same work: a step that was stopped goes on in its run."""
    return run.spec(step).fingerprint[:16]


def _tracked_folder(step: "Step", artifact: Artifact) -> TrackedFolder:
    """A finished artifact under its folder's name; W&B's manifest holds ours, in which no two makings are the same."""
    metadata = {key: value for key, value in artifact.manifest.items() if key not in ("fingerprint", "files")}
    name, kind = f"{step.name}-{artifact.folder.name}", _TYPES.get(step.name, CHECKPOINT)
    return TrackedFolder(name, kind, artifact.fingerprint, artifact.folder, metadata)


def tags(run: "Run", step: "Step") -> list[str]:
    """What a dashboard filters by: subject, hours, start, ablation, seed, scale, split, simulated."""
    from mindeye_pl.data.nsd.splits import STANDARD
    from mindeye_pl.steps.inputs.simulate import is_simulated
    from mindeye_pl.steps.inputs.frozen_models import sees_brains

    config, facts = run.config, []
    if step.name == "pretrain":
        facts += [f"subj0{subject}" for subject in config.pretrain.subjects]
        facts += [f"hours={_hours(config.pretrain.num_sessions)}"]
    elif step.name in _OF_SUBJECT:
        hours = "all" if step.name == "fit_encoder" else _hours(config.data.num_sessions)
        facts += [f"subj0{config.data.subject}", f"hours={hours}"]
    if step.name in _OF_MODEL:
        given = config.finetune.checkpoint if step.name == "finetune" else config.evaluate.checkpoint
        facts += [config.finetune.start if given is None else "checkpoint"]
    if (ablation := config.ablation.name) != "none":
        facts += [f"ablation={ablation}"]
    facts += [f"seed={config.seed}", f"scale={config.scale.name}"]
    facts += [] if config.data.split == STANDARD else [f"split={config.data.split}"]
    simulated = is_simulated(run) if sees_brains(config) else config.foundation.images.source == "simulated"
    facts += ["simulated"] if simulated else []
    return [fact[:_LONGEST_TAG] for fact in facts]


def _hours(num_sessions: Any) -> str:
    return num_sessions if num_sessions == "all" else f"{float(num_sessions) * HOURS_PER_SESSION:g}"
