"""The schema of a configuration: type hints of constructors, and dataclasses for the nodes that build nothing."""
