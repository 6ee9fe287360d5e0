"""Version of the package; it imports nothing, so that any module may read it."""

__version__ = "0.1.0"
