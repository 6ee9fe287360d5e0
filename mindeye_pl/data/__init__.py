"""Datasets of brains and images, real or simulated, and their batches."""
