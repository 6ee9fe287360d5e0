"""Brains and images on disk, real or simulated, and how they become batches."""
