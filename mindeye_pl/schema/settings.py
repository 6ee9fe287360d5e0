"""Base classes of the schema: nodes of plain settings, and nodes that build an object."""


class Settings:
    """A node of a configuration that builds nothing; a dataclass below it names its keys."""


class Component:
    """Annotation of a node that builds an object: it has `_target_`, whose signature is its schema."""
