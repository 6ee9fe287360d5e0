"""Dataclasses of the configuration's plain nodes, by subject."""
