"""Processes of a run that uses several devices."""
