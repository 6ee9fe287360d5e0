"""Scores, how sure they are, and what they stand beside: chance, shuffled brains, ridge regression."""
