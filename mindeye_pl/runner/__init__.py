"""Execution of an experiment."""
