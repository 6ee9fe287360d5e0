"""Configurations in folders that may come from somebody else: what they name is called only where it is allowed.

Hydra calls whatever a `_target_` names. A configuration that the user types is the user's own program; one that lies
beside downloaded weights is not. The names that this package's own configuration has are allowed, parts, networks,
torch optimisers and schedules too, and modules that the user lists.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import register_resolvers
from mindeye_pl.errors import UserError
from mindeye_pl.interpolations import resolutions
from mindeye_pl.schema.nodes.root import Config
from mindeye_pl.schema.validate import validate
from mindeye_pl.sharing.plain import TARGET, find_target
from mindeye_pl.store.regular_files import check_regular

#: Hydra's functions that import what their only argument names.
_LOOKUPS = ("hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object")

#: Configurations of this package have less than a tenth of these bytes, and a quarter of these levels.
_LARGEST_BYTES, _DEEPEST, _MOST_RESOLUTIONS = 1_000_000, 40, 10_000

_NAMES = re.compile(r"(?:_target_|\bpath|made_by): *([A-Za-z_]\w*(?:\.\w+)+)")


def read_foreign_config(path: Path, modules: Sequence[str] = ()) -> DictConfig:
    """Return the configuration of a run from its file, its interpolations resolved and its values checked.

    Args:
        path: the file.
        modules: names of further modules, or packages, whose functions and classes it may name.

    Raises:
        UserError: for a file that cannot be read, and for the first `_target_` that is not allowed, of which nothing is
            imported or called; for the first wrong value.
    """
    register_resolvers()
    try:
        plain = _resolved(OmegaConf.load(StringIO(_text(path))))
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read", got=error, expected="the configuration of a run") from error
    if not isinstance(plain, dict) or not plain:
        raise UserError(f"{path} holds no configuration", got=plain, expected="a mapping")
    for key, name in _named(plain):
        if not _is_allowed(name, modules):
            what = f"{path} names what this package does not know, and it was not called"
            fix = f"modules=[{str(name).rpartition('.')[0]!r}], where you trust that module"
            raise UserError(what, got=f"{key}={name}", expected="a part of mindeye_pl", fix=fix)
    config = OmegaConf.create(plain)
    validate(config, Config)
    return config


def _text(path: Path) -> str:
    """Return YAML text; raise a ValueError for one that is small and becomes large, or deeper than a configuration."""
    with check_regular(path).open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"more than {_LARGEST_BYTES:,} bytes")
    text, depth = content.decode(), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            what = "an alias" if isinstance(event, yaml.AliasEvent) else f"more than {_DEEPEST} levels"
            raise ValueError(f"{what} in line {event.start_mark.line + 1}")
    return text


def _resolved(config: Any) -> Any:
    """Return a configuration as plain data; raise a ValueError for one whose lines stand for many more."""
    if (count := resolutions(OmegaConf.to_container(config))) > _MOST_RESOLUTIONS:
        raise ValueError(f"{count:,} interpolations of interpolations")
    return OmegaConf.to_container(config, resolve=True)


def _named(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what would be imported, with its key; raise a UserError for text that would be resolved a second time."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{key} holds an interpolation of an interpolation", got=value, expected="a value")
    if isinstance(value, dict):
        if TARGET in value:
            is_lookup = value[TARGET] in _LOOKUPS and set(value) == {TARGET, "path"}
            yield (f"{key}.path", value["path"]) if is_lookup else (f"{key}.{TARGET}", value[TARGET])
        if key == "data" and value.get("made_by") is not None:
            yield "data.made_by", value["made_by"]
        for name, item in value.items():
            yield from _named(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _named(item, f"{key}.{place}")


def _is_allowed(name: Any, modules: Sequence[str]) -> bool:
    if not isinstance(name, str):
        return False
    listed = any(name.startswith(f"{module}.") for module in modules)
    return listed or name in _own_names() or find_target(name) is not None


@cache
def _own_names() -> frozenset[str]:
    """The functions and classes that this package's configuration names."""
    found = (name for path in conf_dir().rglob("*.yaml") for name in _NAMES.findall(path.read_text(encoding="utf-8")))
    return frozenset(found) - frozenset(_LOOKUPS)
