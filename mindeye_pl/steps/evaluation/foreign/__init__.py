"""Reconstructions that somebody else made: where they lie, how they are read, and in which order."""
