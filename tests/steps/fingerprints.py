"""Which steps' fingerprints each key of a configuration changes, as tables beside this file.

    python -m tests.steps.fingerprints

writes the tables anew. Read the difference before you commit it: a key that is missing from a step's row is a stale
result waiting to happen, and a key too many retrains for nothing.
"""

from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import omegaconf.base
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.grammar_parser import parse

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.registry import STEPS

TABLES = Path(__file__).parent / "fingerprint_tables"
SYSTEMS = ("mindeye2", "mindeye1", "mind_reader")

#: Stands for a value that is refused, whatever step is asked for.
REFUSED = "refused"


def composed(system: str) -> DictConfig:
    """Return the tiny configuration of a system."""
    return compose_config(["+experiment=finetune_subj01_1h", f"model={system}", "scale=tiny"])


def leaves(node: Any, above: str = "") -> Iterator[tuple[str, DictConfig, Any]]:
    """Yield dotted key, node and key of all values that are written out; not those that follow from another key."""
    for key in node:
        child = node._get_node(key)
        if OmegaConf.is_interpolation(node, key):
            continue
        if isinstance(child, DictConfig) and not child._is_none():
            yield from leaves(child, f"{above}{key}.")
        else:
            yield f"{above}{key}", node, key


def another(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 0.1
    if isinstance(value, str):
        return f"{value}_other"
    return "other" if value is None else [*value, *(list(value)[-1:] or ["other"])]


def fingerprints(config: DictConfig) -> dict[str, str]:
    """Return the fingerprint of every step, `REFUSED` where the step refuses the configuration."""
    run, found = Run(config), {}
    for name, step in STEPS.items():
        try:
            found[name] = run.spec(step).fingerprint
        except (UserError, AttributeError, TypeError, ValueError, KeyError):
            found[name] = REFUSED
    return found


def steps_by_key(config: DictConfig, together: Container[str] = ()) -> dict[str, list[str]]:
    """Return for every key the steps that it changes; a step that refuses the other value counts as changed.

    Args:
        config: of a system.
        together: keys that are changed at once, and each alone only where that changes a step.
    """
    OmegaConf.set_struct(config, False)
    with patch.object(omegaconf.base, "parse", cache(parse)):  # half of the time: the same interpolations each time
        before, keys = fingerprints(config), list(leaves(config))
        at_once = [one for one in keys if one[0] in together]
        if changed_steps(config, at_once, before):
            at_once = []
        found = dict[str, list[str]]((name, []) for name, *_ in at_once)
        for one in keys:
            if one[0] not in found:
                found[one[0]] = changed_steps(config, [one], before)
        assert fingerprints(config) == before
    return found


def changed_steps(config: DictConfig, keys: list[tuple[str, DictConfig, Any]], before: dict[str, str]) -> list[str]:
    """Return the steps whose fingerprints are not those `before` while some keys have other values."""
    values = [node[key] for _, node, key in keys]
    for (_, node, key), value in zip(keys, values, strict=True):
        node[key] = another(value)
    try:
        after = fingerprints(config)
        return [step for step in STEPS if before[step] != after[step]]
    except Exception:  # the keys are needed to make a run at all
        return [REFUSED]
    finally:
        for (_, node, key), value in zip(keys, values, strict=True):
            node[key] = value


def table(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the rows with keys below a node of one row gathered as `node.*`."""
    rows = dict(found)
    nodes = {".".join(key.split(".")[:end]) for key in found for end in range(1, key.count(".") + 1)}
    for node in sorted(nodes):
        below = [key for key in rows if key.startswith(f"{node}.")]
        if len(below) > 1 and len({tuple(rows[key]) for key in below}) == 1:
            row = rows[below[0]]
            for key in below:
                del rows[key]
            rows[f"{node}.*"] = row
    return dict(sorted(rows.items()))


def row_of(key: str, rows: dict[str, list[str]]) -> list[str] | None:
    """Return the row of a key or of the nearest `node.*` above it, None where there is neither."""
    parts = key.split(".")
    names = [key, *(f"{'.'.join(parts[:end])}.*" for end in range(len(parts) - 1, 0, -1))]
    return next((rows[name] for name in names if name in rows), None)


def text(rows: dict[str, list[str]]) -> str:
    """Return the table as YAML, one row a line."""
    return "".join(f"{key}: [{', '.join(steps)}]\n" for key, steps in rows.items())


def read(system: str) -> dict[str, list[str]]:
    """Return the committed table of a system."""
    return yaml.safe_load((TABLES / f"{system}.yaml").read_text())


if __name__ == "__main__":
    TABLES.mkdir(exist_ok=True)
    for system in SYSTEMS:
        (TABLES / f"{system}.yaml").write_text(text(table(steps_by_key(composed(system)))))
