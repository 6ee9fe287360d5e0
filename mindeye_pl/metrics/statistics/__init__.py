"""Scores, confidence intervals, and the value of additional data."""
