"""Steps and the run that makes them: each step is made once, from the steps it needs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config, experiment_overrides
from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import follows, place
from mindeye_pl.errors import UserError
from mindeye_pl.reports.wandb.observer import Tracking
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec, ArtifactStore
from mindeye_pl.store.environment import environment
from mindeye_pl.store.locks import REQUIRED

if TYPE_CHECKING:
    import torch


_SEEN_WITHIN_S = 60.0


@dataclass(frozen=True)
class Step:
    """One kind of artifact.

    Attributes:
        name: as it stands in `pipeline.steps`.
        spec: what determines the artifact under a run's configuration; reads no result of another step.
        needs: the steps whose artifacts it is made from.
        build: fills the work folder, going on with what a killed maker left there.
        version: raised when the same settings come to mean other content; artifacts of before are not reused.
    """

    name: str
    spec: Callable[["Run"], ArtifactSpec]
    needs: Callable[["Run"], Sequence["Step"]]
    build: Callable[["Run", Path], None]
    version: int = 1


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
        """The run of another experiment under this run's other overrides, composed once; see `experiment_overrides`."""
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
            UserError: in a rank that only follows, if it does not see what rank 0 has made.
        """
        spec = self.spec(step)
        if follows():
            return self._see(spec)
        if (artifact := self.store.find(spec)) is None:
            for need in step.needs(self):
                self.make(need)
            with self.tracking.of(step) as track, self.store.making(spec) as work:
                if work is not None:
                    console.rule(f"{step.name}: {spec.label}", align="left", style="dim")
                    track()
                    step.build(self, work)
                    self.made.append(step.name)
            artifact = self.store.find(spec)
            assert artifact is not None
        if step.name not in self.made:
            self.tracking.show_finished(step)
        return artifact

    def _see(self, spec: ArtifactSpec) -> Artifact:
        """An artifact that rank 0 has made; a file system between machines may show it a little later."""
        until = time.monotonic() + _SEEN_WITHIN_S
        while (artifact := self.store.find(spec)) is None:
            if time.monotonic() > until:
                seen = f"rank {place()[0]} does not find {self.store.folder(spec)}, which rank 0 has made"
                raise UserError(seen, fix="paths.outputs=FOLDER on a file system that all machines share")
            time.sleep(0.2)
        return artifact

    def plain(self, *keys: str) -> dict[str, Any]:
        """The named nodes of the configuration, resolved, as plain data for a spec."""
        nodes = {key: OmegaConf.select(self.config, key) for key in keys}
        return {
            key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in nodes.items()
        }


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
