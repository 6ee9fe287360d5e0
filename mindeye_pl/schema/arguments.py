"""Arguments of a settings dataclass, a class or a function: annotation, default and documented meaning."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from mindeye_pl.schema.libraries import narrowed_hints
from mindeye_pl.types import ArgumentsOf

_SECTION = re.compile(r"^(Args|Attributes|Arguments|Parameters):\s*$")
_ENTRY = re.compile(r"^(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


@dataclass(frozen=True)
class Argument:
    """One argument.

    Attributes:
        annotation: its type hint; `Any` where there is none, or where it cannot be resolved.
        required: true if it has no default.
        meaning: its entry in the docstring; empty where there is none.
    """

    annotation: Any
    required: bool
    meaning: str


@dataclass(frozen=True)
class Signature:
    """The arguments of a callable.

    Attributes:
        arguments: by name.
        rest: annotation of further keyword arguments; None if it takes none.
    """

    arguments: Mapping[str, Argument]
    rest: Any = None


@cache
def signature_of(target: Any) -> Signature:
    """Return the signature of a class, a function or a dataclass; one that takes anything if it cannot be inspected.

    Keyword arguments that are handed on (`**sizes: Annotated[Any, ArgumentsOf(build_vae)]`) are among the arguments.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # built-in callables have none
        return Signature({}, Any)
    hints, meanings = _hints(target), meanings_of(target)
    hints |= narrowed_hints(target)
    named = {
        name: Argument(
            hints.get(name, Any),
            parameter.default is inspect.Parameter.empty,
            meanings.get(name, ""),
        )
        for name, parameter in parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    rest = next((hints.get(name, Any) for name, one in parameters.items() if one.kind is one.VAR_KEYWORD), None)
    if get_origin(rest) is Annotated and isinstance(mark := get_args(rest)[1], ArgumentsOf):
        inner = shared_signature(mark)
        handed_on = {name: replace(argument, required=False) for name, argument in inner.arguments.items()}
        return Signature(handed_on | named, inner.rest)
    return Signature(named, rest)


def shared_signature(mark: ArgumentsOf) -> Signature:
    """Return the arguments of all targets that a mapping of keyword arguments is shared out among."""
    signatures = [signature_of(target) for target in mark.targets]
    arguments = {name: argument for one in reversed(signatures) for name, argument in one.arguments.items()}
    return Signature(arguments, next((one.rest for one in signatures if one.rest is not None), None))


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The type hints of a callable; those that cannot be resolved are left out."""
    function: Any = target.__init__ if inspect.isclass(target) else target
    function = inspect.unwrap(function)
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # a name that is imported for type checking alone, say
        return {name: _resolved(hint, function) for name, hint in getattr(function, "__annotations__", {}).items()}


def _resolved(hint: Any, function: Any) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, getattr(function, "__globals__", {}))
    except Exception:
        return Any


def meanings_of(target: Callable[..., Any]) -> dict[str, str]:
    """Return the entries of the docstring's `Args:` or `Attributes:` section, inherited ones included."""
    classes = reversed(target.__mro__[:-1]) if inspect.isclass(target) else [target]
    found: dict[str, str] = {}
    for one in classes:
        found |= _entries(one.__doc__ or "")
        if inspect.isclass(one):
            found |= _entries(vars(one).get("__init__").__doc__ or "" if "__init__" in vars(one) else "")
    return found


def _entries(docstring: str) -> dict[str, str]:
    lines = inspect.cleandoc(docstring).splitlines()
    start = next((number for number, line in enumerate(lines) if _SECTION.match(line)), None)
    if start is None:
        return {}
    body = []
    for line in lines[start + 1 :]:
        if line and not line.startswith(" "):
            break
        body.append(line)
    entries: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent("\n".join(body)).splitlines():
        if (match := _ENTRY.match(line)) is not None:
            name, entries[match[1]] = match[1], match[2]
        elif name and line.strip():
            entries[name] = f"{entries[name]} {line.strip()}".strip()
    return entries
