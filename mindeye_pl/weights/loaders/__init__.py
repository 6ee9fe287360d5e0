"""Loaders of foundation models from released files."""
