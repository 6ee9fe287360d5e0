"""The part of a configuration that a step declares, and the plain data of it that enters fingerprints."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

#: Functions of Hydra that look up the object named by their argument `path`.
_LOOKUPS = ("hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object")


class UndeclaredKeyError(AssertionError):
    """A step reads a configuration key that it does not declare."""


class Settings:
    """Declared keys of a resolved configuration; reading any other key raises.

    A declared node is a read-only `DictConfig`. A declared key that the configuration lacks is None.

    Args:
        values: declared values by key, nested `Settings` for nodes that are declared in part.
        path: dotted key of this node, for messages.
    """

    def __init__(self, values: Mapping[str, Any], path: str = ""):
        self._values, self._path = dict(values), path

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise UndeclaredKeyError(f"{self._path}{key} is read but not declared; declared: {sorted(self._values)}")
        return self._values[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self[key]


def resolve(config: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    """Return the top nodes of some dotted keys as plain data, interpolations resolved."""
    nodes = {name: config.get(name) for name in (key.partition(".")[0] for key in keys)}
    return {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for key, node in nodes.items()
    }


def declare(resolved: Mapping[str, Any], keys: Iterable[str]) -> Settings:
    """Return the part of a resolved configuration that some keys name.

    Args:
        resolved: the whole configuration as plain data.
        keys: dotted keys; a key below another declared key changes nothing.
    """
    paths = [tuple(key.split(".")) for key in dict.fromkeys(keys)]
    whole = set(paths)
    return _declared(resolved, [path for path in paths if not any(path[:end] in whole for end in range(1, len(path)))])


def _declared(node: Mapping[str, Any] | None, paths: list[tuple[str, ...]], above: str = "") -> Settings:
    values: dict[str, Any] = {}
    for head in dict.fromkeys(path[0] for path in paths):
        value = (node or {}).get(head)
        below = [path[1:] for path in paths if path[0] == head and len(path) > 1]
        if below:
            values[head] = _declared(value, below, f"{above}{head}.")
        elif isinstance(value, dict | list):
            values[head] = OmegaConf.create(value)
            OmegaConf.set_struct(values[head], True)
            OmegaConf.set_readonly(values[head], True)
        else:
            values[head] = value
    return Settings(values, above)


def identity(value: Any) -> Any:
    """Return plain data that identifies a part of a configuration, without the places of its classes.

    A node with `_target_` is identified by its arguments and the name of its class. A class that is moved keeps its
    name; a class that is renamed keeps it by an attribute `fingerprint_name`.
    """
    if isinstance(value, Mapping):
        if value.get("_target_") in _LOOKUPS:
            return _class_name(value["path"])
        plain = {str(key): identity(item) for key, item in value.items() if not str(key).startswith("_")}
        return plain | ({"class": _class_name(value["_target_"])} if "_target_" in value else {})
    return [identity(item) for item in value] if isinstance(value, list | tuple) else value


@lru_cache
def _class_name(path: str) -> str:
    found = get_object(path)
    name: str = getattr(found, "fingerprint_name", getattr(found, "__qualname__", path.rpartition(".")[2]))
    return name


def select(resolved: Mapping[str, Any], keys: Iterable[str], without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the identity of some keys of a resolved configuration, by key, less the keys `without` below them."""
    left_out = tuple(without)
    return {key: identity(_without(_value(resolved, key), key, left_out)) for key in keys if key not in left_out}


def _value(resolved: Mapping[str, Any], key: str) -> Any:
    node: Any = resolved
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _without(value: Any, key: str, left_out: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping) or not any(one.startswith(f"{key}.") for one in left_out):
        return value
    return {
        name: _without(item, f"{key}.{name}", left_out)
        for name, item in value.items()
        if f"{key}.{name}" not in left_out
    }
