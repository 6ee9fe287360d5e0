"""One value against one annotation: is it valid, what is expected in words, which valid value is nearest."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mindeye_pl.schema.settings import Component
from mindeye_pl.types import OneOf

#: The value that stands for "there is no nearest one".
NO_VALUE = object()

#: Words less alike than this are no misspellings of each other; the first choice is then proposed.
ALIKE = 0.5

#: Text that the command line reads as a number, a truth value or null unless it is quoted.
_READ_AS_ANOTHER_TYPE = re.compile(r"[+-]?\.?\d[\d_.eE+-]*|true|false|null|nan|[+-]?inf", re.IGNORECASE)

_CONFIG = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, strict=True)


def is_valid(value: Any, annotation: Any) -> bool:
    """Return true if a plain value fits an annotation; annotations that nothing can be checked against fit all.

    Types are strict (no number is read from text, none is rounded), but an int is a float.
    """
    try:
        if (adapter := _adapter(annotation)) is not None:
            adapter.validate_json(json.dumps(value))  # strict as JSON is: a list is a tuple, text is a path
    except ValidationError:
        return False
    return True


def _adapter(annotation: Any) -> TypeAdapter | None:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # metadata that cannot be hashed
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter | None:
    if annotation is Any:
        return None
    try:
        if isinstance(annotation, type) and hasattr(annotation, "__pydantic_config__"):
            return TypeAdapter(annotation)
        adapter: TypeAdapter = TypeAdapter(annotation, config=_CONFIG)
        adapter.rebuild(raise_errors=True)
    except Exception:  # a forward reference that is imported for type checking alone, say
        return None
    return adapter


_cached_adapter = lru_cache(maxsize=None)(_new_adapter)


def in_words(annotation: Any) -> str:
    """Describe what an annotation accepts: `a whole number, 1 or more`."""
    base, bounds = _split(annotation)
    origin, inner = get_origin(base), get_args(base)
    if (choices := _choices(annotation)) is not None:
        return _listed([as_override(choice) for choice in choices])
    if origin in (Union, UnionType):
        words = [in_words(option) for option in sorted(inner, key=lambda one: _choices(one) is None)]
        return " or ".join(dict.fromkeys(words))
    if base is str and (form := next((bound for bound in bounds if isinstance(bound, str)), "")):
        return f"text ({form})"
    if base in (int, float):
        return " ".join([{int: "a whole number", float: "a number"}[base], *_bounds_in_words(bounds, base)])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping, each value {in_words(inner[1])}" if inner and inner[1] is not Any else "a mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if origin is tuple and Ellipsis not in inner:
            return f"a list of {len(inner)}: " + ", ".join(in_words(item) for item in inner)
        filled = "a list that is not empty" if any(isinstance(bound, MinLen) for bound in bounds) else "a list"
        return f"{filled}, each item {in_words(inner[0])}" if inner else filled
    simple = {bool: "true or false", str: "text", NoneType: "null", list: "a list", dict: "a mapping"}
    if base in simple:
        return simple[base]
    if base is Component:
        return "a node with `_target_`"
    name = getattr(base, "__name__", str(base))
    return "a path" if name in ("Path", "PathLike") else f"a node with `_target_` ({name})"


def nearest(value: Any, annotation: Any) -> Any:
    """Return a valid value near an invalid one; `NO_VALUE` if none is found."""
    for candidate in _candidates(value, annotation):
        if is_valid(candidate, annotation):
            return candidate
    return NO_VALUE


def _candidates(value: Any, annotation: Any) -> Iterator[Any]:
    base, bounds = _split(annotation)
    origin, inner = get_origin(base), get_args(base)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (choices := _choices(annotation)) is not None:
        likeness = {choice: similarity(str(choice), str(value)) for choice in choices}
        if max(likeness.values(), default=0.0) >= ALIKE:
            yield max(choices, key=likeness.__getitem__)
        yield choices[0]
    elif origin in (Union, UnionType):
        # A word is near a choice, a number near a number, and null comes last.
        options = sorted(inner, key=lambda one: (one is NoneType, (_choices(one) is not None) == number))
        for option in options:
            yield from _candidates(value, option)
    elif base is bool:
        yield str(value).lower() in ("true", "yes", "on", "1")
    elif base in (int, float):
        yield from _numbers(value if number and math.isfinite(value) else None, base, bounds)
    elif base is str and isinstance(value, str | int | float):
        yield str(value)
        yield re.sub(r"[^\w.+-]+", "_", str(value)).lstrip("_")
    elif base is NoneType:
        yield None
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping) and len(inner) == 2:
        yield {key: item if is_valid(item, inner[1]) else nearest(item, inner[1]) for key, item in value.items()}
    elif isinstance(origin, type) and issubclass(origin, Sequence) and inner:
        items = value if isinstance(value, list | tuple) and value else [None if value == [] else value]
        mended = [item if is_valid(item, inner[0]) else nearest(item, inner[0]) for item in items]
        if NO_VALUE not in mended:
            yield mended
            yield list(dict.fromkeys(mended)) if all(isinstance(item, int | float | str) for item in mended) else mended


def _numbers(value: float | None, base: type, bounds: Sequence[Any]) -> Iterator[float]:
    """Numbers near `value`, or of an ordinary size where that is none."""
    if value is not None:
        yield base(round(value)) if base is int else float(value)
    limits = [limit for bound in bounds if (limit := _limit(bound, base)) is not None]
    yield from sorted(limits, key=lambda limit: abs(limit - (value or 0)))
    if value is not None:
        yield base(abs(value))
    yield from (base(1), 0.5, 0.1) if base is float else (1, 0)


def _limit(bound: Any, base: type) -> float | None:
    """The outermost number that a bound allows; None where there is none, as of "above 0"."""
    match bound:
        case Ge(ge=limit) | Le(le=limit):
            return base(limit)
        case Gt(gt=limit) if base is int:
            return int(limit) + 1  # type: ignore[call-overload]
        case Lt(lt=limit) if base is int:
            return int(limit) - 1  # type: ignore[call-overload]
    return None


def similarity(first: str, second: str) -> float:
    """Return how alike two words are, from 0 to 1."""
    return SequenceMatcher(None, first.lower(), second.lower()).ratio()


def as_override(value: Any) -> str:
    """Write a value as the command line takes it: `true`, `null`, `[1,2]`, `{1:2}`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_override(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return f"\\'{text}\\'" if _READ_AS_ANOTHER_TYPE.fullmatch(text) and isinstance(value, str) else text


def _split(annotation: Any) -> tuple[Any, list[Any]]:
    """The annotation without `Annotated`, and its bounds one by one."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    base, *metadata = get_args(annotation)
    inner, bounds = _split(base)
    for item in metadata:
        bounds += list(item) if isinstance(item, GroupedMetadata) else [item]
    return inner, bounds


def _choices(annotation: Any) -> list[Any] | None:
    """The values of a `Literal`, or the names in a registry; None for other annotations."""
    base, bounds = _split(annotation)
    if get_origin(base) is Literal:
        return list(get_args(base))
    return next((list(bound.choices) for bound in bounds if isinstance(bound, OneOf)), None)


def _bounds_in_words(bounds: Sequence[Any], base: type) -> list[str]:
    """The limits of a number: `from 0 to 1`, `of at least 1`, `above 0`, `of at least 0 and below 1`."""
    lower = upper = ""
    for bound in bounds:
        match bound:
            case Ge(ge=limit):
                lower = f"of at least {limit:g}"
            case Gt(gt=limit):
                lower = f"of at least {_limit(bound, int)}" if base is int else f"above {limit:g}"
            case Le(le=limit):
                upper = f"at most {limit:g}"
            case Lt(lt=limit):
                upper = f"below {limit:g}" if limit != 2**32 else "below 2**32"
    return [" and ".join(filter(None, (lower, upper)))] if lower or upper else []


def _listed(words: Sequence[str]) -> str:
    return " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"
