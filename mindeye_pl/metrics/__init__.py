"""Scores with confidence intervals, and their baselines: chance, shuffled brains and ridge regression."""
