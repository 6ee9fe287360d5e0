"""Options of the configuration that a library's class refuses, in one line that names them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.errors import UserError

_CALLED = re.compile(r"Error in call to target '([\w.]+)'")


@contextmanager
def naming_refused_options(config: DictConfig) -> Iterator[None]:
    """Name the key of a node whose class refuses its arguments inside the block, where Hydra names the class alone.

    Raises:
        UserError: in place of Hydra's error.
    """
    try:
        yield
    except InstantiationException as error:
        cause, found = error.__cause__, _CALLED.search(str(error))
        if isinstance(cause, UserError | OSError):  # a full disk, for instance, has a line of its own
            raise cause from error
        if cause is None or found is None:
            raise
        name = found[1].rpartition(".")[2]
        keys = [key for node, values in _nodes_of(name, config) for key in _named_in(str(cause), node, values)]
        what = f"{' or '.join(keys) or 'an option'} is refused by {name}"
        fix = "another value, or the command without it"
        raise UserError(what, got=str(cause) or type(cause).__name__, fix=fix) from error


def _nodes_of(name: str, config: DictConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the values of each node that builds a class of this name."""
    plain = OmegaConf.to_container(config, resolve=True)
    waiting: list[tuple[str, Any]] = [("", plain)]
    while waiting:
        key, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if str(node.get("_target_", "")).rpartition(".")[2] == name:
            yield key, node
        waiting += [(f"{key}.{own}" if key else str(own), inner) for own, inner in node.items()]


def _named_in(message: str, node: str, values: dict[str, Any]) -> list[str]:
    """Return the keys of the node that the message names, or whose text it quotes; the node's own if there are none."""
    options = [option for option in values if re.search(rf"\b{re.escape(str(option))}\b", message)]
    options = options or [
        option for option, value in values.items() if isinstance(value, str) and repr(value) in message
    ]
    return [f"{node}.{option}" for option in options] or [node]
