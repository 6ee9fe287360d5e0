"""A run: one configuration whose steps are made once each, from the steps that they need."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config, experiment_overrides
from mindeye_pl.console import console
from mindeye_pl.distributed.ranks import is_main_process, on_main_process, rank, wait_for_all
from mindeye_pl.engine.records import StepLog
from mindeye_pl.engine.settings import declare, select
from mindeye_pl.engine.step import FingerprintOf, Input, Inputs, Made, RunObserver, Step, WithOverrides, Work
from mindeye_pl.errors import UserError
from mindeye_pl.store.artifacts import Artifact, ArtifactSpec, ArtifactStore
from mindeye_pl.store.atomic import write_text
from mindeye_pl.store.environment import environment

_VISIBLE_WITHIN_S = 60.0


class Observer:
    """Receives what happens to the steps of a run. This one ignores it; W&B's is in `reports.wandb`."""

    @contextmanager
    def making(self, run: "Run", step: Step) -> Iterator[Callable[[], StepLog]]:
        """Surround the making of a step; the function that it yields is called where there is something to build."""
        yield StepLog

    def found(self, run: "Run", step: Step) -> None:
        """Tell of a step whose artifact was finished already."""

    def uses_embeddings(self, folder: Path, described: Mapping[str, Any], fingerprint: str, *, filled: bool) -> None:
        """Tell of a folder of embeddings that the steps in making read, or fill."""


class Run:
    """One configuration and the artifacts of its steps.

    Args:
        config: the composed configuration.
        overrides: the command line that composed it, for the commands printed to the user.
        job: its number in a sweep, None for a run of its own.
    """

    def __init__(self, config: DictConfig, overrides: Sequence[str] = (), job: int | None = None):
        self.config, self.overrides, self.job = config, list(overrides), job
        shared = config.paths.shared_artifacts
        self.store = ArtifactStore(
            Path(config.paths.artifacts),
            Path(shared) if shared else None,
            locks=config.artifacts.locks,
            made_with=environment,
        )
        self.observer = Observer()
        self.made: list[str] = []  # names of the steps that were not found finished
        self._specs: dict[str, ArtifactSpec] = {}
        self._others: dict[str, Run] = {}

    @cached_property
    def experiment(self) -> str:
        """Name of the experiment, `adhoc` where none was asked for."""
        given = [item.split("=", 1)[1] for item in self.overrides if item.lstrip("+").startswith("experiment=")]
        return given[-1] if given else "adhoc"

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data, interpolations resolved."""
        plain: Any = OmegaConf.to_container(self.config, resolve=True)
        return plain

    def of_experiment(self, name: str) -> "Run":
        """Return the run of another experiment under this run's other overrides."""
        return self._other(experiment_overrides(name, self.overrides))

    def with_overrides(self, more: Sequence[str]) -> "Run":
        """Return the run of this command line with further overrides, which replace those of the same key."""
        given = {_key(item) for item in more}
        return self._other([*(item for item in self.overrides if _key(item) not in given), *more])

    def _other(self, overrides: list[str]) -> "Run":
        name = " ".join(overrides)
        if name not in self._others:
            self._others[name] = Run(compose_config(overrides), overrides)
            self._others[name].observer = self.observer
        return self._others[name]

    def spec(self, step: Step) -> ArtifactSpec:
        """Return what determines the step's artifact; raise a `UserError` for settings or inputs that it refuses."""
        if step.name not in self._specs:
            step.check(self.config)
            inputs = {name: run._fingerprint(leaf) for name, (run, leaf) in self.leaves(step).items()}
            self._specs[step.name] = ArtifactSpec(
                step.name,
                step.label(self.config),
                select(self.resolved, step.keys, without=step.runtime_keys) | step.derived(self.config),
                {name: value for name, value in inputs.items() if value is not None},
                version=step.version,
            )
        return self._specs[step.name]

    def _fingerprint(self, one: Input) -> str | None:
        return self.spec(one.step).fingerprint if isinstance(one, Made) else one.fingerprint(self.config)

    def leaves(self, step: Step) -> dict[str, tuple["Run", Input]]:
        """Return the inputs of a step and all their parts by dotted name, each with the run of its command line."""
        return dict(self._leaves(step.inputs(self.config)))

    def _leaves(self, declared: Mapping[str, Input], above: str = "") -> Iterator[tuple[str, tuple["Run", Input]]]:
        for name, one in declared.items():
            if isinstance(one, WithOverrides):
                yield from self.with_overrides(one.overrides)._leaves({name: one.input}, above)
            else:
                yield from self._leaves(one.parts(self.config), f"{above}{name}.")
                yield f"{above}{name}", (self, one)

    def find(self, step: Step) -> Artifact | None:
        """Return the step's finished artifact, None where there is none."""
        return self.store.find(self.spec(step))

    def inputs(self, step: Step) -> Inputs:
        """Return the inputs of a step, opened as they are read."""
        return Inputs(step.inputs(self.config), self.open)

    def parts(self, one: Input) -> Inputs:
        """Return the parts of an input, opened as they are read."""
        return Inputs(one.parts(self.config), self.open)

    def open(self, one: Input) -> Any:
        """Return the value of an input, made now where it is missing."""
        match one:
            case Made(step):
                return self.make(step).folder
            case FingerprintOf(step):
                return self.spec(step).fingerprint
            case WithOverrides(overrides, of_other):
                return self.with_overrides(overrides).open(of_other)
            case RunObserver():
                return self.observer
        return one.open(self.config, self.parts(one))

    def make(self, step: Step) -> Artifact:
        """Return the step's artifact, made now with all that it needs where it is missing.

        Every rank calls it. Rank 0 decides whether there is something to build.
        """
        spec = self.spec(step)
        artifact: Artifact | None = on_main_process(self.store.find, spec)
        if artifact is None:
            for run, one in self.leaves(step).values():
                if isinstance(one, Made):
                    run.make(one.step)
            if step.by_all_ranks:
                self._build(step, spec)
            else:
                on_main_process(self._build, step, spec)
            artifact = on_main_process(self.store.find, spec)
            assert artifact is not None
        if is_main_process() and step.name not in self.made:
            self.observer.found(self, step)
        _wait_until_visible(artifact.folder)
        return artifact

    def _build(self, step: Step, spec: ArtifactSpec) -> None:
        """Build an artifact in its work folder, which rank 0 locks, records, and renames when every rank is done."""
        with ExitStack() as held_by_rank_0:
            log = StepLog()

            def start() -> Path | None:
                nonlocal log
                record = held_by_rank_0.enter_context(self.observer.making(self, step))
                folder = held_by_rank_0.enter_context(self.store.making(spec))
                if folder is not None:
                    console.rule(f"{step.name}: {spec.label}", align="left", style="dim")
                    log = record()
                return folder

            folder = on_main_process(start)
            if folder is not None:  # else another process has built it
                _wait_until_visible(folder)
                settings = declare(self.resolved, (*step.keys, *step.runtime_keys))
                step.build(settings, self.inputs(step), Work(folder, f"{step.name}/{spec.name}", log))
                wait_for_all()
                self.made.append(step.name)
            if folder is not None and step.keeps_config and is_main_process():
                write_text(folder / step.CONFIG, OmegaConf.to_yaml(self.config, resolve=True))
            on_main_process(held_by_rank_0.close)


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


def order(config: DictConfig, steps: Sequence[Step]) -> list[Step]:
    """Return the steps and all that they need, each once, needed steps first."""
    ordered: list[Step] = []
    for step in steps:
        for one in [*order(config, step.needs(config)), step]:
            if one not in ordered:
                ordered.append(one)
    return ordered
