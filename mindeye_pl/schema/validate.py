"""Validation of a composed configuration against type hints, before anything runs."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pydoc import ErrorDuringImport, locate
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, Node, OmegaConf

from mindeye_pl.errors import UserError
from mindeye_pl.schema.arguments import Signature, shared_signature, signature_of
from mindeye_pl.schema.libraries import Reserved
from mindeye_pl.schema.settings import Component, Settings
from mindeye_pl.schema.values import ALIKE, NO_VALUE, as_override, in_words, is_valid, nearest, similarity
from mindeye_pl.types import ArgumentsOf, CalledWith

TARGET = "_target_"

#: Hydra's own keys of a node that builds an object.
_HYDRA = {
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list,
}

#: Arguments that the project supplies when it builds a part; a configuration has null or nothing there.
SUPPLIED = frozenset({"voxel_counts"})

#: An interpolation that hands on another key's value, with a default or without one.
_HANDED_ON = re.compile(r"^\$\{(?:oc\.select:)?([A-Za-z_][\w.]*)(?:,[^{}]*)?\}$")

#: As `ALIKE`, of a key inside one of the node's own nodes.
_ALIKE_BELOW = 0.8

Key = tuple[str | int, ...]
Mark = TypeVar("Mark")


def validate(config: DictConfig, root: type[Settings]) -> None:
    """Check every node of a composed configuration; `root` declares its top-level keys.

    A further top-level key may hold a node with `_target_`, a part of the user's.

    Raises:
        UserError: for the first unknown or missing key and the first wrong value, naming the key that holds it.
    """
    _Validator(config).root(OmegaConf.to_container(config, resolve=True), root)


class _Validator:
    """One validation; `config` tells where a value came from."""

    def __init__(self, config: DictConfig):
        self._config = config

    def root(self, values: Any, settings: Any) -> None:
        """Check the top level, parts of the user's at keys of their own among it."""
        known = signature_of(settings).arguments
        own = {name: value for name, value in values.items() if name not in known and _is_component(value)}
        for name, value in own.items():
            self.component((name,), value, SUPPLIED)
        self.settings((), {name: value for name, value in values.items() if name not in own}, settings)

    def settings(self, key: Key, values: Any, settings: Any) -> None:
        """Check a node of plain settings."""
        if not isinstance(values, Mapping):
            raise self._wrong(key, values, "a mapping")
        self._arguments(key, values, signature_of(settings), self._files(values), partial=False)

    def component(self, key: Key, values: Any, supplied: frozenset[str], called_with: CalledWith | None = None) -> None:
        """Check a node that builds an object, or whose function is called with further positional arguments."""
        if not isinstance(values, Mapping) or not isinstance(values.get(TARGET), str):
            raise self._wrong(key, values, "a node with `_target_`, or null")
        signature = signature_of(self._imported((*key, TARGET), values[TARGET]))
        if called_with is not None:
            signature = self._called(key, values[TARGET], signature, called_with)
        for name, annotation in _HYDRA.items():
            if name in values:
                self.value((*key, name), values[name], annotation, supplied)
        arguments = {name: value for name, value in values.items() if name not in (TARGET, *_HYDRA)}
        partial = bool(values.get("_partial_")) or "_args_" in values
        self._arguments(key, arguments, signature, supplied, partial=partial)

    def _imported(self, key: Key, name: str) -> Callable[..., Any]:
        """The class or function of a full name."""
        try:
            target = locate(name)
        except ErrorDuringImport as error:
            raise UserError(f"{self._name(key)} cannot be imported ({error.exc}: {error.value})", got=name) from error
        if callable(target):
            return target
        module, _, own = name.rpartition(".")
        near = sorted(dir(locate(module)) if module else (), key=lambda other: -similarity(own, other))
        expected = f"{module}.{near[0]}" if near and similarity(own, near[0]) >= ALIKE else "a class or function"
        raise UserError(f"{self._name(key)} names nothing that can be called", got=name, expected=expected)

    def _called(self, key: Key, name: str, signature: Signature, called_with: CalledWith) -> Signature:
        """Return the arguments that a function has beside those that it is called with."""
        given = called_with.arguments
        if len(signature.arguments) < len(given) and signature.rest is None:
            expected = f"a function of {' and '.join(given)}"
            raise UserError(f"{self._name((*key, TARGET))} takes too few arguments", got=name, expected=expected)
        return replace(signature, arguments=dict(list(signature.arguments.items())[len(given) :]))

    def value(self, key: Key, value: Any, annotation: Any, supplied: frozenset[str] = SUPPLIED) -> None:
        """Check what stands at a key."""
        if (reserved := _marked(annotation, Reserved)) is not None:
            raise UserError(f"{self._name(key)} is set by the project", got=as_override(value), fix=reserved.fix)
        if isinstance(value, Mapping) and (keywords := _marked(annotation, ArgumentsOf)) is not None:
            self._arguments(key, value, shared_signature(keywords), supplied, partial=True)
            return
        options = options_of(annotation)
        if value is None and (NoneType in options or key[-1] in supplied):
            return
        if Component in options and _is_component(value):
            self.component(key, value, supplied, _marked(annotation, CalledWith))
            return
        inner = _structured_items(options, value)
        settings = next((one for one in options if isinstance(one, type) and issubclass(one, Settings)), None)
        if inner is not None and (settings is None or _holds_nodes(value)):
            for name, item in _items(value):
                self.value((*key, name), item, inner, supplied)
        elif settings is not None:
            self.settings(key, value, settings)
        elif Component in options and len(options) == 1 + (NoneType in options):
            self.component(key, value, supplied)
        elif _holds_component(value):
            self._nested(key, value, supplied)
        elif not is_valid(value, annotation):
            raise self._wrong(key, value, in_words(annotation), nearest(value, annotation))

    def _nested(self, key: Key, value: Any, supplied: frozenset[str]) -> None:
        """Check the nodes inside an argument; what the argument itself may be is for the constructor to say."""
        if _is_component(value):
            self.component(key, value, supplied)
        else:
            for name, item in _items(value):
                self._nested((*key, name), item, supplied)

    def _arguments(
        self, key: Key, values: Mapping[Any, Any], signature: Signature, supplied: frozenset[str], *, partial: bool
    ) -> None:
        known = signature.arguments
        for name, value in values.items():
            if name in known:
                self.value((*key, name), value, known[name].annotation, supplied)
            elif signature.rest is None:
                raise self._unknown((*key, name), known, values)
            else:
                self.value((*key, name), value, signature.rest, supplied)
        for name, argument in known.items():
            if argument.required and name not in values and name not in supplied and not partial:
                missing, example = self._name((*key, name)), nearest(None, argument.annotation)
                fix = f"+{missing}={'VALUE' if example is NO_VALUE else as_override(example)}"
                raise UserError(f"{missing} is missing", expected=in_words(argument.annotation), fix=fix)

    @staticmethod
    def _files(values: Mapping[str, Any]) -> frozenset[str]:
        """The arguments of a node's `network` that take its weight files, which are looked for later."""
        weights = values.get("weights")
        if not isinstance(weights, Mapping):
            return SUPPLIED
        return SUPPLIED | ({"path"} if "file" in weights else set(weights))

    def _wrong(self, key: Key, value: Any, expected: str, valid: Any = NO_VALUE) -> UserError:
        name = self._name(key)
        fix = None if valid is NO_VALUE else f"{name}={as_override(valid)}"
        return UserError(f"{name} has a wrong value", got=as_override(value), expected=expected, fix=fix)

    def _unknown(self, key: Key, known: Iterable[str], values: Mapping[Any, Any]) -> UserError:
        parent, own = self._name(key[:-1]), str(key[-1])  # the key itself may stand for another key's value
        name = f"{parent}.{own}" if parent else own
        if not (known := list(known)):
            return UserError("unknown key", got=name, expected="no key here", fix=f"remove {name}")
        best, likeness = max(known, key=lambda other: similarity(own, other)), ALIKE
        if similarity(own, best) < ALIKE and (below := list(_keys_below(values))):
            best, likeness = max(below, key=lambda other: similarity(own, other.rpartition(".")[-1])), _ALIKE_BELOW
        is_near = similarity(own, best.rpartition(".")[-1]) >= likeness
        expected = ".".join(filter(None, (parent, best))) if is_near else "a key of docs/configuration.md"
        return UserError("unknown key", got=name, expected=expected, fix=f"correct or remove {name}")

    def _name(self, key: Key) -> str:
        """The dotted key that holds a value: where it came through an interpolation, the key that it came from."""
        return ".".join(str(part) for part in origin(self._config, key))


def origin(config: DictConfig, key: Key) -> Key:
    """Follow interpolations that hand on another key's value, to the key that the user sets; it may be `key` itself."""
    node: Any = config
    for position, part in enumerate(key):
        if not isinstance(node, DictConfig | ListConfig) or node._is_none():
            return key
        node = _child(node, part)
        if isinstance(node, Node) and node._is_interpolation():
            match = _HANDED_ON.match(str(node._value()))
            if match is None:
                return key
            source: Key = tuple(int(name) if name.isdigit() else name for name in match[1].split("."))
            if OmegaConf.select(config, match[1], default=None) is None:
                return key
            return origin(config, (*source, *key[position + 1 :]))
    return key


def _child(node: DictConfig | ListConfig, part: str | int) -> Any:
    try:
        return node._get_node(part)  # type: ignore[arg-type]
    except Exception:
        return None


def options_of(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; the annotation alone if it is none."""
    if get_origin(annotation) is Annotated:
        return options_of(get_args(annotation)[0])
    return _members(annotation)


def _keys_below(values: Mapping[Any, Any]) -> Iterator[str]:
    """The dotted keys inside the nodes of a node."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in (*value, *_keys_below(value)))


def _structured_items(options: tuple[Any, ...], value: Any) -> Any:
    """The annotation of a list's or mapping's items where these are nodes; None for plain items."""
    for option in options:
        origin_type, inner = get_origin(option), get_args(option)
        if origin_type in (list, dict) and isinstance(value, origin_type) and _is_structured(inner[-1]):
            return inner[-1]
    return None


def _is_structured(annotation: Any) -> bool:
    return any(isinstance(one, type) and issubclass(one, Settings | Component) for one in options_of(annotation))


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _holds_nodes(value: Any) -> bool:
    """True if all items are nodes: of several by name, not the keys of one."""
    return all(item is None or isinstance(item, Mapping) for _, item in _items(value))


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET in value


def _holds_component(value: Any) -> bool:
    return _is_component(value) or any(_holds_component(item) for _, item in _items(value))


def _marked(annotation: Any, mark: type[Mark]) -> Mark | None:
    """The mark of this kind in an annotation's metadata."""
    for option in _members(annotation):
        if get_origin(option) is Annotated:
            for item in get_args(option)[1:]:
                if isinstance(item, mark):
                    return item
    return None


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
