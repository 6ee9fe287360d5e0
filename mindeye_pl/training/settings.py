"""Settings of a training beside its model and data: Lightning's trainer, callbacks and loggers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger

from mindeye_pl.console import console
from mindeye_pl.errors import UserError

#: Callbacks, by class name, that leave the weights of a training as they are. Any other one is part of its fingerprint.
_KEEP_WEIGHTS = (
    *("ModelCheckpoint", "OnExceptionCheckpoint", "ResumeCheckpoint", "ModelSummary", "RichModelSummary"),
    *(
        "RecomputeActivations",
        "DeviceStatsMonitor",
        "LearningRateMonitor",
        "ThroughputMonitor",
        "RichProgressBar",
        "TQDMProgressBar",
    ),
)

#: Stands for the training's name in the arguments of a logger.
_NAME = "{training}"


@dataclass(frozen=True)
class TrainingSettings:
    """Lightning's side of a training.

    Attributes:
        trainer: `_target_` and arguments of Lightning's `Trainer`.
        callbacks: nodes with a `_target_` by name; None leaves one out.
        loggers: the same for loggers; nodes without a `_target_`, as `wandb`, are not Lightning's.
        seed: of the random numbers of each epoch.
        name: step and label under which loggers file the training; replaces `{training}` in their arguments.
    """

    trainer: DictConfig
    callbacks: Mapping[str, Any]
    loggers: Mapping[str, Any]
    seed: int
    name: str = "training"

    @classmethod
    def of(cls, config: Any, name: str) -> Self:
        """Return the settings of a configuration, or of a step's part of one, for the training of that name."""
        trainer = OmegaConf.create(_plain(config.trainer))
        return cls(trainer, _plain(config.callbacks), _plain(config.logger), config.seed, name)

    def build_callbacks(self) -> list[Callback]:
        """Return the configured callbacks, progress bars only on a terminal; a `UserError` if a node names no class."""
        nodes = [_checked(f"callbacks.{name}", node) for name, node in self.callbacks.items() if node is not None]
        made = [instantiate(node, _convert_="all") for node in nodes]
        return [one for one in made if console.is_terminal or not isinstance(one, ProgressBar)]

    def build_loggers(self) -> list[Logger]:
        """Return the configured loggers of Lightning."""
        nodes = [node for node in self.loggers.values() if isinstance(node, Mapping) and "_target_" in node]
        named = [{k: v.replace(_NAME, self.name) if isinstance(v, str) else v for k, v in one.items()} for one in nodes]
        return [instantiate(node, _convert_="all") for node in named]


def determined_by_callbacks(config: DictConfig) -> dict[str, Any]:
    """Return the callbacks that may change a training's weights, for its fingerprint; empty by default."""
    nodes = _plain(config.callbacks)
    given = {(key := f"callbacks.{name}"): _checked(key, node) for name, node in nodes.items() if node is not None}
    return {key: node for key, node in given.items() if node["_target_"].rpartition(".")[-1] not in _KEEP_WEIGHTS}


def _plain(node: DictConfig | None) -> dict[str, Any]:
    """Return the node's content without interpolations, empty for None."""
    return {} if node is None else OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]


def _checked(key: str, node: Any) -> dict[str, Any]:
    if not isinstance(node, dict) or "_target_" not in node:
        fix = f"+{key}._target_=pytorch_lightning.callbacks.NAME, or {key}=null"
        raise UserError(f"{key} names no class", got=node, expected="a node with _target_", fix=fix)
    return node
