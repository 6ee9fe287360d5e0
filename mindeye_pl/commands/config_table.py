"""Tables of every configuration key in `docs/configuration.md`: `python -m mindeye_pl.commands.config_table`.

A key, its type and its meaning come from the dataclasses and constructors that validate it, its default from `conf/`.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from pydoc import locate
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.schema.arguments import Argument, signature_of
from mindeye_pl.schema.nodes.root import Config
from mindeye_pl.schema.settings import Component, Settings
from mindeye_pl.schema.validate import SUPPLIED, TARGET, options_of
from mindeye_pl.schema.values import as_override, in_words

BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"

_OWN = "mindeye_pl."
#: Command lines that together have every node; a default is that of the first one that has the key.
_COMMAND_LINES = (
    "",
    "model=mindeye1 data=nsd_mindeye1 unclip=versatile_diffusion index=milvus vae=sd_512",
    "model=mind_reader optimizer=adam scheduler=step_decay foundation=lafite maps=convnext trainer=fsdp logger=csv"
    " data=laion_fmri callbacks=[default,early_stopping,lr_monitor]",
    "low_level=vae_blur optimizer=muon refine=sdxl_img2img foundation=sdxl embedder=clip_b32 captioner=git"
    " data=nsd_tests adaptation=[lora]",
    "data=nsd_release",
    "data=own",
)
#: A node with the class that it builds, and key, type, default and meaning of each of its keys.
_Table = tuple[str, list[tuple[str, str, str, str]]]


def table_text() -> str:
    """Return the tables in Markdown."""
    configs = [OmegaConf.to_container(compose_config(line.split()), resolve=False) for line in _COMMAND_LINES]
    lines = []
    for title, rows in _tables("", Config, configs):
        if rows:
            lines += [f"### {title}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
            lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def write(path: Path) -> None:
    """Write the tables between the two marks of a Markdown file."""
    head, rest = path.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n\n{table_text()}\n{END}{tail}", encoding="utf-8")


def _tables(key: str, settings: Any, configs: Sequence[Any]) -> Iterator[_Table]:
    """Yield the tables of a node of settings and of the nodes below it."""
    rows, below = [], []
    for name, argument in signature_of(settings).arguments.items():
        own = f"{key}.{name}" if key else name
        inner, part = _node_of(argument.annotation)
        if inner is Component:
            below.append(_components(own, configs))
        elif _holds_components(argument.annotation):
            named = list(_named(own, inner, configs))
            below.append(iter(named))
            rows += [] if named else [_row(own, argument, configs)]
        elif inner is not None:
            below.append(_tables(f"{own}{part}", inner, configs))
        else:
            rows.append(_row(own, argument, configs))
    meaning = (inspect.getdoc(settings) or "").splitlines()[0].rstrip(".")
    yield (f"`{key}`: {meaning}" if key else "Top level"), rows
    yield from chain(*below)


def _named(key: str, settings: type[Settings] | None, configs: Sequence[Any]) -> Iterator[_Table]:
    """Yield the tables of nodes by a name of the user's choice, which build objects; those of `settings` build none."""
    for name in dict.fromkeys(name for config in configs for name in _select(config, key)):
        own = f"{key}.{name}"
        if any(_is_component(_select(config, own)) for config in configs):
            yield from _components(own, configs)
        elif settings is not None:
            yield from _tables(own, settings, configs)


def _components(key: str, configs: Sequence[Any]) -> Iterator[_Table]:
    """Yield a table for each class that a node builds, and for those that it builds for its arguments."""
    seen = set()
    below: dict[str, None] = {}
    for config in configs:
        node = _select(config, key)
        if not _is_component(node) or node[TARGET] in seen:
            continue
        seen.add(node[TARGET])
        is_own = node[TARGET].startswith(_OWN)
        rows = [
            _row(f"{key}.{name}", argument, [config])
            for name, argument in signature_of(locate(node[TARGET])).arguments.items()
            if (name in node or is_own)
            and not _is_component(node.get(name))
            and (name not in SUPPLIED or node.get(name) is not None)
        ]
        yield f"`{key}`, of `{node[TARGET]}`", rows
        if is_own:  # arguments of a library's class are documented by the library
            own = (name for name, value in node.items() if _is_component(value) and value[TARGET].startswith(_OWN))
            below |= dict.fromkeys(own)
    for name in below:
        yield from _components(f"{key}.{name}", configs)


def _row(key: str, argument: Argument, configs: Sequence[Any]) -> tuple[str, str, str, str]:
    defaults = (found for config in configs if (found := _select(config, key)) is not _MISSING)
    text = "".join(f"`{as_override(default)}`" for default in islice(defaults, 1))
    return f"`{key}`", in_words(argument.annotation), text, argument.meaning


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET in value


_MISSING = object()


def _select(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return _MISSING
        config = config[part]
    return config


def _node_of(annotation: Any) -> tuple[Any, str]:
    """Return the node that an annotation holds, and the suffix of the key if there are several."""
    for option in options_of(annotation):
        if option is Component or (isinstance(option, type) and issubclass(option, Settings)):
            return option, ""
        if get_origin(option) in (dict, list) and (inner := _node_of(get_args(option)[-1])[0]) not in (None, Component):
            return inner, ".NAME" if get_origin(option) is dict else "[]"
    return None, ""


def _holds_components(annotation: Any) -> bool:
    """Return whether there are several nodes by name that may build objects."""
    return any(get_origin(one) is dict and Component in options_of(get_args(one)[-1]) for one in options_of(annotation))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    write(Path("docs/configuration.md"))
