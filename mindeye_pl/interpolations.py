"""How much work it is to resolve the interpolations of a configuration, without resolving any."""

import re
from collections.abc import Iterator
from typing import Any

#: A key, relative with leading dots, or the arguments of a resolver.
_INNERMOST = re.compile(r"\$\{(?:[\w.]+:)?([^${}]*)\}")


def resolutions(config: Any) -> int:
    """Return how many values are resolved to resolve all of a configuration of plain data.

    An interpolation may name a value with two interpolations, so that N lines stand for 2**N values; each line is
    counted once. A value that names itself counts as far as that.
    """
    known: dict[tuple[str, ...], int] = {}

    def count(value: Any, path: tuple[str, ...]) -> int:
        if path not in known:
            known[path] = 0  # while it is counted, for one that names itself
            known[path] = sum(1 + count(*found) for found in _named(value, config, path))
            known[path] += sum(count(item, (*path, key)) for key, item in _items(value))
        return known[path]

    return count(config, ())


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((str(place), item) for place, item in enumerate(value))


def _named(value: Any, config: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield the values that a text names, with their paths."""
    for inner in _INNERMOST.findall(value) if isinstance(value, str) else ():
        for word in inner.split(","):
            key = word.strip()
            dots = len(key) - len(key.lstrip("."))
            steps = tuple(step for step in re.split(r"[.\[\]]", key[dots:]) if step)
            target = (*path[: len(path) - dots], *steps) if dots else steps
            found: Any = config
            for step in target:
                found = dict(_items(found)).get(step)
            if target and found is not None:
                yield found, target
