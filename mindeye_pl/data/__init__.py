"""Brains and pictures on disk, real or simulated, and how they become batches."""
