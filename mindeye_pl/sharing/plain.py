"""Parts as plain data and back: the `model` node of a shared folder's `config.json`.

A node names a class (`_target_`) and its arguments, as a resolved node of the configuration does. A folder may come
from somebody else, and whoever may name any callable may run any code: even the project's own functions write files,
and through its modules every other module is reached. So a name has to be that of a part that this process knows, of a
plain record of `models`, of one of the project's schedules, or of a torch optimiser or schedule.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from numbers import Integral, Real
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mindeye_pl.errors import UserError

TARGET, PARTIAL = "_target_", "_partial_"

#: Every part that was imported, by its full name; `Shareable` fills it. A part of another package is known once the
#: user has imported it.
KNOWN: dict[str, type] = {}

_OWN = re.compile(r"mindeye_pl\.models(\.\w+)+")
_TORCH = re.compile(r"torch\.optim(\.\w+)*")
_SCHEDULES = "mindeye_pl.models.schedule"


def full_name(target: Any) -> str:
    """As a `_target_` says it."""
    return f"{target.__module__}.{target.__qualname__}"


def describe(value: Any) -> Any:
    """A part, or an argument of one, as data that json can hold.

    Optimisers and schedules are kept as partial calls where `rebuild` would take them, and left out (None) where they
    are functions of the user's own: what is not kept is how to train on, never what was trained.

    Raises:
        TypeError: for an argument that is neither a part nor plain data.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if full_name(type(value)) in KNOWN:
        return {TARGET: full_name(type(value))} | {name: describe(made) for name, made in value.made_of.items()}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [describe(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TARGET: full_name(type(value))} | fields
    if isinstance(value, functools.partial) and not value.args and _find(full_name(value.func)) is not None:
        return {TARGET: full_name(value.func), PARTIAL: True} | describe(value.keywords)
    if callable(value):
        return None
    raise TypeError(f"{value!r} is no plain data, so that a part made of it cannot be rebuilt")


def rebuild(node: Any) -> Any:
    """What `describe` described, on the current default device.

    Raises:
        UserError: for a name that may not be called, see the module's words.
    """
    if isinstance(node, list):
        return [rebuild(item) for item in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: rebuild(item) for key, item in node.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in node:
        return arguments
    if (target := _find(node[TARGET])) is None:
        raise UserError(
            "config.json names what is no known part and was not called",
            got=node[TARGET],
            expected="a part in mindeye_pl.models, or a torch optimiser or schedule",
            fix="import the module that defines it first, where you trust it and it is a part",
        )
    return functools.partial(target, **arguments) if node.get(PARTIAL) is True else target(**arguments)


def _find(name: Any) -> Callable[..., Any] | None:
    """What a `_target_` names, if it may be called."""
    module, _, attribute = str(name).rpartition(".")
    own = _OWN.fullmatch(module) is not None
    if not own and not _TORCH.fullmatch(module):
        return KNOWN.get(str(name))
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return None
    if inspect.isclass(found):
        learns = issubclass(found, (Optimizer, LRScheduler)) and not own
        plain = own and dataclasses.is_dataclass(found) and found.__module__ == module
        return found if learns or plain or KNOWN.get(full_name(found)) is found else None
    return found if inspect.isfunction(found) and found.__module__ == module == _SCHEDULES else None
