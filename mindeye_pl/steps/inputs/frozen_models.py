"""Frozen foundation models that a configuration names: their files, what identifies them, loading them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.engine.settings import Settings, identity
from mindeye_pl.engine.step import CHECKPOINT, MISSING, Input, Inputs
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint, fingerprint_file
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.locate import download_command, find_weights, is_given, is_whole, needed
from mindeye_pl.weights.safe_unpickling import DOWNLOAD, content_of

#: Keys of a group that say where its files are, and so nothing of what is made with them.
_PLACES = ("folder", "path", "weights", "captions", "made_by")

#: What makes the files of a group that does not say it itself.
_MADE_BY = "pipeline=pretrain_foundation"


@dataclass(frozen=True)
class FrozenModel:
    """A foundation model with the files of its weights, not loaded yet.

    Attributes:
        group: its configuration group, `embedder` for instance.
        settings: node of the configuration.
        files: paths of the weights by name.
        device: of the run's frozen models.
        identity: plain data that determines what is made with it.
    """

    group: str
    settings: DictConfig
    files: Mapping[str, Path]
    device: torch.device
    identity: dict[str, Any]
    _arguments: Mapping[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Option of the group."""
        return self.settings.name

    def load(self) -> Any:
        """Return the model, on the CPU; a `UserError` names a file that is not what it should be."""
        try:
            return instantiate(self.settings.network, **self._arguments, _convert_="all")
        except InstantiationException as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from error
            commands = [download_command(released) for released in _released(self.settings).values()]
            fix = "; ".join(commands) or None
            raise UserError(f"{self.group}={self.name} could not be loaded", got=error.__cause__, fix=fix) from error


@dataclass(frozen=True)
class Frozen(Input):
    """A frozen foundation model; opened, a `FrozenModel`, or None where it is optional and a file is missing.

    Attributes:
        group: dotted key of its node, `embedder` or `features.alexnet`.
        optional: whether the step does without it.
        without: settings of the group that change nothing in what the step makes.
        replaced: settings below `network` that the step asks for in place of the configured ones.
    """

    group: str
    optional: bool = False
    without: tuple[str, ...] = ()
    replaced: tuple[tuple[str, Any], ...] = ()

    artifact_type = CHECKPOINT

    def node(self, config: DictConfig) -> dict[str, Any]:
        """Return the group's node as plain data, resolved and with the replaced settings."""
        plain: Any = OmegaConf.to_container(OmegaConf.select(config, self.group), resolve=True)
        network = plain.setdefault("network", {})  # `foundation.unclip` names files alone
        network |= {key: value for key, value in self.replaced if key in network}
        return plain

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the settings and the files."""
        node = self.node(config)
        files = self._files(config, node)
        if self.optional and None in files.values():
            return MISSING
        return fingerprint(self._identity(node, files))

    def open(self, config: DictConfig, parts: Inputs) -> FrozenModel | None:
        """Return the model, not loaded yet."""
        node = self.node(config)
        files = self._files(config, node)
        if self.optional and None in files.values():
            return None
        there = {name: path for name, path in files.items() if path is not None}
        where = {name: find_weights(entry, weights_folder(config)) for name, entry in _released(node).items()}
        by = self._identity(node, files)
        return FrozenModel(self.group, OmegaConf.create(node), there, frozen_device(config), by, where)  # type: ignore[arg-type]

    def missing(self, config: DictConfig) -> list[str]:
        """Return the missing files of a model that is not optional."""
        if self.optional:
            return []
        node = self.node(config)
        commands = {
            entry.file: "no such file" if is_given(entry) else f"{download_command(entry)}, or paths.weights=FOLDER"
            for entry in _released(node).values()
        }
        made = f"not in {node.get('folder') or 'the package'}; {node.get('made_by', _MADE_BY)} makes it"
        missing = [name for name, path in self._files(config, node).items() if path is None]
        return [f"weights of {self.group}: {name} ({commands.get(name) or made})" for name in missing]

    def need(self, config: DictConfig) -> str | None:
        """Return what stands in place of a score that needs the model, None where all files are there."""
        node = self.node(config)
        return needed(OmegaConf.create(node["weights"])) if None in self._files(config, node).values() else None

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check that no weight file is cut off."""
        for path in self._files(config, self.node(config)).values():
            if path is not None and not is_whole(path):
                raise UserError(f"{path} is not whole", got=content_of(path), fix=DOWNLOAD)

    def _files(self, config: DictConfig, node: Mapping[str, Any]) -> dict[str, Path | None]:
        """Return the files by name, None for one that is not on this machine; empty for random weights."""
        if "files" in node:
            folder = Path(node["folder"]) if node["folder"] else bundled.SHIPPED
            return {name: folder / name if (folder / name).is_file() else None for name in node["files"]}
        return {entry.file: find_weights(entry, weights_folder(config)) for entry in _released(node).values()}

    def _identity(self, node: Mapping[str, Any], files: Mapping[str, Path | None]) -> dict[str, Any]:
        plain = identity(node)
        for settings in (plain, plain["network"]):
            for key in (*_PLACES, *self.without):
                settings.pop(key, None)
        found = {_short(name, path): fingerprint_file(path) for name, path in files.items() if path is not None}
        return plain | {"files": found}


def frozen_device(config: DictConfig | Settings) -> torch.device:
    """Return the device of the run's frozen models."""
    return torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")


def weights_folder(config: DictConfig) -> Path | None:
    """Return the user's folder of foundation weights, `paths.weights`."""
    return Path(config.paths.weights) if config.paths.weights else None


def _released(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entries of `conf/weights` that a group needs, by the argument of its builder that takes the file."""
    weights = node.get("weights")
    if weights is None:
        return {}
    return {name: OmegaConf.create(one) for name, one in ({"path": weights} if "file" in weights else weights).items()}


def _short(name: str, path: Path) -> str:
    """Name a file as its repository does, whose folders may hold one name twice; a user's own file by its name."""
    return path.name if Path(name).is_absolute() else str(Path(name).with_name(path.name))


def has_part(config: DictConfig, name: str) -> bool:
    """Return whether the run's system has a part of this name."""
    return OmegaConf.select(config, f"model.{name}") is not None


def low_level_groups(config: DictConfig) -> list[str]:
    """Return the groups whose models make the targets of the low-level branch."""
    if config.get("low_level") is None:
        return []
    return ["vae", "maps"] if config.get("maps") is not None else ["vae"]
