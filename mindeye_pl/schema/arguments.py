"""Arguments of a settings dataclass, a class or a function: annotation, default and documented meaning."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from mindeye_pl.schema.libraries import narrowed_hints
from mindeye_pl.types import ArgumentsOf

_SECTION = re.compile(r"^(?:Args|Attributes|Arguments|Parameters):\s*\n((?: .*\n|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+)\s*(?:\([^)]*\))?:\s*(.*(?:\n+ +.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Argument:
    """One argument: its type hint (`Any` if it has none), true if it has no default, and its documented meaning."""

    annotation: Any
    required: bool
    meaning: str


@dataclass(frozen=True)
class Signature:
    """The arguments of a callable by name, and the annotation of further keyword arguments; None if it takes none."""

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
    hints, meanings = _hints(target) | narrowed_hints(target), meanings_of(target)
    named = {
        name: Argument(hints.get(name, Any), parameter.default is parameter.empty, meanings.get(name, ""))
        for name, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
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
    try:
        return eval(hint, getattr(function, "__globals__", {})) if isinstance(hint, str) else hint
    except Exception:
        return Any


def meanings_of(target: Callable[..., Any]) -> dict[str, str]:
    """Return the meanings of a dataclass's keys, and the entries of `Args:` and `Attributes:`; inherited ones too."""
    found: dict[str, str] = {}
    for one in reversed(target.__mro__[:-1]) if inspect.isclass(target) else [target]:
        constructor = vars(one).get("__init__") if inspect.isclass(one) else None
        found |= _entries(one.__doc__) | _entries(constructor.__doc__)
    declared = fields(target) if is_dataclass(target) else ()
    return found | {one.name: one.metadata["meaning"] for one in declared if "meaning" in one.metadata}


def _entries(docstring: str | None) -> dict[str, str]:
    section = _SECTION.search(inspect.cleandoc(docstring or "") + "\n")
    entries = _ENTRY.findall(textwrap.dedent(section[1])) if section else ()
    return {name: " ".join(meaning.split()) for name, meaning in entries}
