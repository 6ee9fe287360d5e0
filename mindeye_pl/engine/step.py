"""Steps and the run that makes them: each step is made once, from the steps it needs."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config, experiment_overrides
from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import is_main_process, on_main_process, rank, wait_for_all
from mindeye_pl.errors import UserError
from mindeye_pl.reports.wandb.observer import Tracking
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec, ArtifactStore
from mindeye_pl.store.environment import environment
from mindeye_pl.store.locks import REQUIRED

if TYPE_CHECKING:
    import torch


_VISIBLE_WITHIN_S = 60.0


@dataclass(frozen=True)
class Step:
    """One kind of artifact.

    Attributes:
        name: as it stands in `pipeline.steps`.
        spec: what determines the artifact under a run's configuration; reads no result of another step.
        needs: the steps whose artifacts it is made from.
        build: fills the work folder, going on with what a killed maker left there.
        version: raised when the same settings come to mean other content; artifacts of before are not reused.
        on_all_ranks: all ranks build it together in one work folder; otherwise rank 0 builds it while the others wait.
    """

    name: str
    spec: Callable[["Run"], ArtifactSpec]
    needs: Callable[["Run"], Sequence["Step"]]
    build: Callable[["Run", Path], None]
    version: int = 1
    on_all_ranks: bool = False


class Run:
    """One configuration being carried out.

    Args:
        config: the composed configuration.
        overrides: the command line that composed it, for the commands printed to the user.
        job: its number in a sweep, None for a run of its own.
    """

    def __init__(self, config: DictConfig, overrides: Sequence[str] = (), job: int | None = None):
        self.config, self.job = config, job
        self.overrides = list(overrides)
        # Configurations of before there was a shared store, saved beside a model, are read too.
        shared = OmegaConf.select(config, "paths.shared_artifacts")
        locks = OmegaConf.select(config, "artifacts.locks", default=REQUIRED)
        self.store = ArtifactStore(
            Path(config.paths.artifacts), Path(shared) if shared else None, locks=locks, made_with=environment
        )
        self.made: list[str] = []  # names of the steps that were not found finished
        self._specs: dict[str, ArtifactSpec] = {}
        self._others: dict[str, Run] = {}

    @cached_property
    def experiment(self) -> str:
        """The experiment's name, `adhoc` where none was asked for."""
        given = [item.split("=", 1)[1] for item in self.overrides if item.lstrip("+").startswith("experiment=")]
        return given[-1] if given else "adhoc"

    @cached_property
    def device(self) -> "torch.device":
        """Where the run's frozen models work."""
        import torch

        return torch.device("cuda" if self.config.trainer.accelerator == "gpu" else "cpu")

    @cached_property
    def weights_folder(self) -> Path | None:
        """The user's folder of foundation weights, `paths.weights`."""
        given = self.config.paths.weights
        return Path(given) if given else None

    @cached_property
    def tracking(self) -> Tracking:
        """The W&B runs of the steps that are made."""
        return Tracking(self)

    def of_experiment(self, name: str) -> "Run":
        """The run of another experiment under this run's other overrides, composed once."""
        if name not in self._others:
            overrides = experiment_overrides(name, self.overrides)
            self._others[name] = Run(compose_config(overrides), overrides)
        return self._others[name]

    def with_overrides(self, more: Sequence[str]) -> "Run":
        """The run of this one's command line with further overrides, composed once; they beat those of the same key."""
        name = " ".join(more)
        if name not in self._others:
            given = {_key(item) for item in more}
            overrides = [*(item for item in self.overrides if _key(item) not in given), *more]
            self._others[name] = Run(compose_config(overrides), overrides)
        return self._others[name]

    def spec(self, step: Step) -> ArtifactSpec:
        """The step's spec under this configuration."""
        if step.name not in self._specs:
            self._specs[step.name] = replace(step.spec(self), version=step.version)
        return self._specs[step.name]

    def inputs(self, step: Step) -> dict[str, str]:
        """The fingerprints of what a step needs."""
        return {need.name: self.spec(need).fingerprint for need in step.needs(self)}

    def find(self, step: Step) -> Artifact | None:
        """The step's finished artifact, if there is one."""
        return self.store.find(self.spec(step))

    def make(self, step: Step) -> Artifact:
        """The step's artifact, made now with all that it needs where it is missing.

        Raises:
            UserError: if a rank does not find what rank 0 has built.
        """
        spec = self.spec(step)
        artifact: Artifact | None = on_main_process(self.store.find, spec)
        if artifact is None:
            for need in step.needs(self):
                self.make(need)
            if step.on_all_ranks:
                self._build(step, spec)
            else:
                on_main_process(self._build, step, spec)
            artifact = on_main_process(self.store.find, spec)
            assert artifact is not None
        if is_main_process() and step.name not in self.made:
            self.tracking.show_finished(step)
        _wait_until_visible(artifact.folder)
        return artifact

    def _build(self, step: Step, spec: ArtifactSpec) -> None:
        """Build an artifact in its work folder, which rank 0 locks, tracks, and renames when every rank is done."""
        with ExitStack() as held_by_rank_0:

            def start() -> Path | None:
                track = held_by_rank_0.enter_context(self.tracking.of(step))
                work = held_by_rank_0.enter_context(self.store.making(spec))
                if work is not None:
                    console.rule(f"{step.name}: {spec.label}", align="left", style="dim")
                    track()
                return work

            work = on_main_process(start)
            if work is not None:  # else another process has built it
                _wait_until_visible(work)
                step.build(self, work)
                wait_for_all()
                self.made.append(step.name)
            on_main_process(held_by_rank_0.close)

    def plain(self, *keys: str) -> dict[str, Any]:
        """The named nodes of the configuration, resolved, as plain data for a spec."""
        nodes = {key: OmegaConf.select(self.config, key) for key in keys}
        return {
            key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in nodes.items()
        }


def _wait_until_visible(folder: Path) -> None:
    """Wait for a folder that rank 0 has made: a file system between machines may show it a little later."""
    until = time.monotonic() + _VISIBLE_WITHIN_S
    while not folder.exists():
        if time.monotonic() > until:
            what = f"rank {rank()} does not find {folder}, which rank 0 has made"
            raise UserError(what, fix="paths.outputs=FOLDER on a file system that all machines share")
        time.sleep(0.2)


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def order(run: Run, steps: Sequence[Step]) -> list[Step]:
    """The steps and all they need, each once, needs first."""
    ordered: list[Step] = []
    for step in steps:
        for one in [*order(run, step.needs(run)), step]:
            if one not in ordered:
                ordered.append(one)
    return ordered


def check_steps(run: Run, steps: Sequence[Step]) -> None:
    """Refuses now what any of the steps, or what they need, would refuse of the configuration later.

    Raises:
        UserError: of the first step that refuses.
    """
    for step in order(run, steps):
        run.spec(step)
