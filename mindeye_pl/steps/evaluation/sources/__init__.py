"""Readers of reconstructions that the user brings."""
