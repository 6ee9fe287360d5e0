"""Modules that record their constructor's arguments, so that they can be written as plain data and rebuilt."""

import inspect
from typing import Any, Self

from torch import nn

#: Every recorded class that was imported, by its full name. A class of another package is in it once the user has
#: imported it.
RECORDED: dict[str, type] = {}


def full_name(target: Any) -> str:
    """Return the dotted path of a class or function, as `_target_` names it."""
    return f"{target.__module__}.{target.__qualname__}"


class Recorded(nn.Module):
    """A module that remembers its constructor's arguments. Every network of a `Part` derives from it.

    Attributes:
        made_of: the constructor's arguments by name, defaults included.
    """

    made_of: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        RECORDED[full_name(cls)] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments before the constructor sees them."""
        made = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(made, *args, **kwargs)
        bound.apply_defaults()  # defaults may change between versions
        made.__dict__["made_of"] = dict(list(bound.arguments.items())[1:])
        return made
