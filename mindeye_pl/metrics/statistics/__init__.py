"""Scores, confidence intervals, and the value of data."""
