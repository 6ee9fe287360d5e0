"""Base classes of the schema: nodes of plain settings, and nodes that build an object."""

from dataclasses import dataclass, field
from typing import Any, dataclass_transform


def key(meaning: str) -> Any:
    """Declare a key that every configuration with the node has."""
    return field(metadata={"meaning": meaning})


def optional(meaning: str) -> Any:
    """Declare a key that may be missing."""
    return field(default=None, metadata={"meaning": meaning})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(key, optional))
class Settings:
    """A node of a configuration that builds nothing; a class below it, which becomes a dataclass, declares its keys."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)


class Component:
    """Annotation of a node that builds an object: it has `_target_`, whose signature is its schema."""
