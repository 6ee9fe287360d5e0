"""Modules as plain data and back: the `model` node of a shared folder's `config.json`.

A node names a class (`_target_`) and its arguments, as a resolved node of the configuration does. A folder may come
from somebody else, and a name of any callable would run any code: even the project's own functions write files, and
its modules give access to every other module. So a name must be that of a recorded class (a part or a network) that
this process has imported, of a dataclass of `models`, of one of the project's schedules, or of a torch optimiser or
schedule.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from numbers import Integral, Real
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mindeye_pl.errors import UserError
from mindeye_pl.nn.recorded import RECORDED, full_name

TARGET, PARTIAL = "_target_", "_partial_"

_OWN = re.compile(r"mindeye_pl\.(models|nn)(\.\w+)+")
_TORCH = re.compile(r"torch\.optim(\.\w+)*")
_SCHEDULES = "mindeye_pl.models.schedule"


def describe(value: Any) -> Any:
    """Return a recorded module, or an argument of one, as data that json can hold.

    Optimisers and schedules become partial calls where `rebuild` accepts them, else None, for example functions of the
    user's own: they are needed to train further, not to use the trained model. Raises a TypeError for an argument that
    is neither a recorded module nor plain data.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if full_name(type(value)) in RECORDED:
        return {TARGET: full_name(type(value))} | {name: describe(made) for name, made in value.made_of.items()}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [describe(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TARGET: full_name(type(value))} | fields
    if isinstance(value, functools.partial) and not value.args and find_target(full_name(value.func)) is not None:
        return {TARGET: full_name(value.func), PARTIAL: True} | describe(value.keywords)
    if isinstance(value, nn.Module):
        name = full_name(type(value))
        raise TypeError(f"{name} does not derive from `mindeye_pl.nn.recorded.Recorded`, so that it cannot be rebuilt")
    if callable(value):
        return None
    raise TypeError(f"{value!r} is no plain data, so that a part made of it cannot be rebuilt")


def rebuild(node: Any) -> Any:
    """Rebuild what `describe` returned, on the default device; raises a UserError for a name that is not allowed."""
    if isinstance(node, list):
        return [rebuild(item) for item in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: rebuild(item) for key, item in node.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in node:
        return arguments
    if (target := find_target(node[TARGET])) is None:
        raise UserError(
            "config.json names what is no known part and was not called",
            got=node[TARGET],
            expected="a part in mindeye_pl.models, a network in mindeye_pl.nn, or a torch optimiser or schedule",
            fix="import the module that defines it first, where you trust it and it is a part",
        )
    return functools.partial(target, **arguments) if node.get(PARTIAL) is True else target(**arguments)


def find_target(name: Any) -> Callable[..., Any] | None:
    """Return the object that a foreign `_target_` names if it may be called, else None."""
    module, _, attribute = str(name).rpartition(".")
    own = _OWN.fullmatch(module) is not None
    if not own and not _TORCH.fullmatch(module):
        return RECORDED.get(str(name))
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return None
    if inspect.isclass(found):
        learns = issubclass(found, (Optimizer, LRScheduler)) and not own
        plain = own and dataclasses.is_dataclass(found) and found.__module__ == module
        return found if learns or plain or RECORDED.get(full_name(found)) is found else None
    return found if inspect.isfunction(found) and found.__module__ == module == _SCHEDULES else None
