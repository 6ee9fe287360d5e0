"""Alignment of a new subject in closed form, and what prepares the shared parts for it."""
