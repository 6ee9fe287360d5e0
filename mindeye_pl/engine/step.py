"""A step makes one kind of artifact from declared settings and declared inputs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import DictConfig

from mindeye_pl.engine.records import Record, StepLog
from mindeye_pl.engine.settings import Settings

if TYPE_CHECKING:
    from mindeye_pl.store.artifacts import Artifact

#: Fingerprint of an optional file that is not there, so that a file added later is noticed.
MISSING = "missing"

#: Types of W&B artifacts.
DATA, EMBEDDINGS, CHECKPOINT, RECONSTRUCTIONS, SCORES = "data", "embeddings", "checkpoint", "reconstructions", "scores"


class Input(ABC):
    """Something that a step is made from. It has a fingerprint before it is opened."""

    #: Type of W&B artifact, for inputs that no step of the project makes.
    artifact_type: ClassVar[str] = DATA

    def parts(self, config: DictConfig) -> Mapping[str, "Input"]:
        """Return the inputs that it is put together from, by name."""
        return {}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return what identifies the content beside the parts; None for nothing."""
        return None

    @abstractmethod
    def open(self, config: DictConfig, parts: "Inputs") -> Any:
        """Return the value that the step works with."""

    def missing(self, config: DictConfig) -> list[str]:
        """Return the files that are not on this machine, each with the command that brings it."""
        return []

    def check(self, config: DictConfig, parts: "Inputs") -> None:
        """Raise a `UserError` for a damaged or unfit file, before anything long begins and without reading it whole."""

    def is_simulated(self, config: DictConfig) -> bool:
        """Return whether it holds simulated data."""
        return any(part.is_simulated(config) for part in self.parts(config).values())

    def steps(self, config: DictConfig) -> list["Step"]:
        """Return the steps that make it or its parts, each once; none for files of the user's."""
        return list(dict.fromkeys(step for part in self.parts(config).values() for step in part.steps(config)))


class OfRun(Input):
    """An input that the run itself opens (`Run.open`)."""

    def open(self, config: DictConfig, parts: "Inputs") -> Any:
        """Refuse: the run opens it."""
        raise AssertionError("opened by the run")


@dataclass(frozen=True)
class Made(OfRun):
    """The artifact of another step; opened, its folder."""

    step: "Step"

    def steps(self, config: DictConfig) -> list["Step"]:
        """Return the step itself."""
        return [self.step]

    def is_simulated(self, config: DictConfig) -> bool:
        """Return whether the step is of simulated data."""
        return self.step.is_simulated(config)


@dataclass(frozen=True)
class FingerprintOf(OfRun):
    """The fingerprint of another step's artifact, which need not be made; opened, a string."""

    step: "Step"


@dataclass(frozen=True)
class WithOverrides(OfRun):
    """An input of the same command line with further overrides, which replace those of the same key."""

    overrides: tuple[str, ...]
    input: Input


@dataclass(frozen=True)
class RunObserver(OfRun):
    """The observer of the run; opened, an `Observer`."""


class Inputs:
    """Declared inputs by name, each opened when it is first read."""

    def __init__(self, declared: Mapping[str, Input], opener: Callable[[Input], Any]):
        self._declared, self._opener = declared, opener
        self._opened: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        assert name in self._declared, f"{name} is read but not declared; declared: {sorted(self._declared)}"
        if name not in self._opened:
            self._opened[name] = self._opener(self._declared[name])
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        return name in self._declared

    def get(self, name: str) -> Any:
        """Return an input, or None if it is not declared."""
        return self[name] if name in self._declared else None


@dataclass(frozen=True)
class Work:
    """Where a step is built.

    Attributes:
        folder: work folder; it holds what a killed build left.
        name: of the artifact, `STEP/LABEL-FINGERPRINT`.
        log: rows and images of the build.
    """

    folder: Path
    name: str
    log: StepLog


class Step(ABC):
    """One kind of artifact: everything that is true of it stands in its class.

    Attributes:
        name: as `pipeline.steps` names it, and the folder of its artifacts.
        title: for people.
        keys: dotted configuration keys that determine the content; `build` may read them.
        runtime_keys: keys that `build` may read too, and that change nothing in the content. They may lie below `keys`.
        version: raised when the same settings come to mean another content.
        artifact_type: of W&B's artifact.
        keeps_config: whether the whole configuration is kept in the artifact, `CONFIG`.
        by_all_ranks: whether all ranks build it together; others are built by the first rank.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()
    runtime_keys: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    artifact_type: ClassVar[str] = CHECKPOINT
    keeps_config: ClassVar[bool] = False
    by_all_ranks: ClassVar[bool] = False

    #: The file of `keeps_config`.
    CONFIG: ClassVar[str] = "config.yaml"

    @abstractmethod
    def label(self, config: DictConfig) -> str:
        """Return a few words for people, part of the folder's name and not of the fingerprint."""

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what the artifact is made from, by name."""
        return {}

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return further plain data that determines the content, computed from the configuration."""
        return {}

    def check(self, config: DictConfig) -> None:
        """Raise a `UserError` for settings that do not fit each other, before any step is made."""

    @abstractmethod
    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fill the work folder, resuming from what a killed build left there."""

    def record(self, inputs: Inputs, artifact: "Artifact", record: Record, num_images: int) -> None:
        """Log what the finished artifact holds."""

    def tags(self, config: DictConfig) -> list[str]:
        """Return the tags that are this step's own: subjects, hours, start."""
        return []

    def is_simulated(self, config: DictConfig) -> bool:
        """Return whether the numbers are of simulated data."""
        return any(one.is_simulated(config) for one in self.inputs(config).values())

    def needs(self, config: DictConfig) -> list["Step"]:
        """Return the steps that make the inputs, each once."""
        return list(dict.fromkeys(step for one in self.inputs(config).values() for step in one.steps(config)))

    def __repr__(self) -> str:
        return f"<step {self.name}>"
